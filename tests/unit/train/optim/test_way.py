"""Which way the low-memory update takes: run and plan decide it by one function."""

from __future__ import annotations

from pi05.train.optim.way import ChosenWay, Way, choose_way


def test_the_fastest_that_nothing_speaks_against_and_the_reasons() -> None:
    asked: list[Way] = []

    def refuses(*refused: Way) -> ChosenWay:
        def answer(way: Way) -> str | None:
            asked.append(way)
            return f"no {way}" if way in refused else None

        asked.clear()
        return choose_way(True, answer)

    assert refuses() == ChosenWay(way="kernel")
    assert asked == ["kernel"], "compiling for a trial takes half a minute: it is not asked for in vain"
    assert refuses("kernel") == ChosenWay(way="compiled", why_no_kernel="no kernel")
    assert asked == ["kernel", "compiled"]
    both = refuses("kernel", "compiled")
    assert both == ChosenWay(way="plain", why_no_kernel="no kernel", why_not_compiled="no compiled")


def test_on_a_cpu_nobody_is_asked() -> None:
    def never(way: Way) -> str | None:
        raise AssertionError(way)

    assert choose_way(False, never) == ChosenWay(way="plain")
