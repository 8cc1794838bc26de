from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from serving import CONTRACT

from pi05.errors import Refused
from pi05.serve import session as module
from pi05.serve.dialects import Ask
from pi05.serve.protocol import Contract
from pi05.serve.session import SESSIONS, Allowance, KeptChunk, Session


def test_an_allowance_holds_one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    allowance = Allowance(4.0)
    assert [allowance.spend() for _ in range(5)] == [True] * 4 + [False]
    now += 0.25
    assert [allowance.spend() for _ in range(2)] == [True, False]
    now += 1000
    assert sum(allowance.spend() for _ in range(10)) == 4


def kept() -> Session:
    one = Session(allowance=Allowance(1.0))
    one.begin(Ask(what="infer", session_id="a", step=5))
    one.kept = KeptChunk(actions=np.arange(70, dtype=np.float32).reshape(10, 7))
    return one


@pytest.mark.parametrize(
    ("ask", "forgets"),
    [
        (Ask(what="infer", step=6), False),
        (Ask(what="infer", session_id="a"), False),
        (Ask(what="nothing"), False),
        (Ask(what="ping"), False),
        (Ask(what="infer", session_id="b", step=0), True),
        (Ask(what="reset"), True),
        (Ask(what="nothing", starts_episode=True), True),
        (Ask(what="infer", starts_episode=True, step=1), True),
    ],
)
def test_what_forgets_an_episode(ask: Ask, forgets: bool) -> None:
    one = kept()
    one.begin(ask)
    assert (one.kept is None) == forgets


def test_looks_are_kept_for_each_session_and_outlive_its_episodes() -> None:
    one = Session(allowance=Allowance(1.0))
    found = {}
    for name in ("a", "b"):
        one.begin(Ask(what="infer", session_id=name))
        (found[name],) = one.looks_of(1)
    assert found["a"] is not found["b"]
    for end in (Ask(what="reset"), Ask(what="nothing", starts_episode=True), Ask(what="reset", session_id="b")):
        one.begin(end)
        assert one.looks_of(1) == [found["b"]]
    one.begin(Ask(what="infer", session_id="a"))
    assert one.looks_of(1) == [found["a"]]


def test_looks_of_examples_are_kept_by_their_place() -> None:
    one = Session(allowance=Allowance(1.0))
    three = one.looks_of(3)
    assert len(set(map(id, three))) == 3
    assert one.looks_of(2) == three[:2]
    assert one.looks_of(4)[:3] == three


def test_looks_of_the_last_sessions_are_kept_and_no_more() -> None:
    one = Session(allowance=Allowance(1.0))
    one.begin(Ask(what="infer", session_id="first"))
    (first,) = one.looks_of(1)
    for i in range(100):
        one.begin(Ask(what="infer", session_id=str(i)))
        one.looks_of(1)
        if i == SESSIONS - 2:  # asked just in time
            one.begin(Ask(what="infer", session_id="first"))
            assert one.looks_of(1) == [first]
    assert list(one.looks) == [str(i) for i in range(100 - SESSIONS, 100)]
    one.begin(Ask(what="infer", session_id="first"))
    assert one.looks_of(1) != [first]


def test_an_older_step_is_refused_within_an_episode() -> None:
    one = kept()
    one.begin(Ask(what="infer", step=5))
    with pytest.raises(Refused, match="older"):
        one.begin(Ask(what="infer", step=4))
    one.begin(Ask(what="reset"))
    one.begin(Ask(what="infer", step=0))


def test_a_kept_chunk_is_handed_out_as_far_as_it_is_planned() -> None:
    one = kept()
    firsts = [action[0] for _ in range(5) if (action := one.next_kept_action(CONTRACT)) is not None]
    assert firsts == [0, 7, 14]  # n_action_steps is 3


# --- chunks that are continued ----------------------------------------------------------------------------------------

GUIDED = replace(CONTRACT, chunking="guided")
TRAINED = replace(CONTRACT, chunking="trained", max_delay=2)


def numbered(origin: int) -> np.ndarray:
    """Return a chunk whose actions say for which step they are."""
    return np.repeat(np.arange(origin, origin + 10, dtype=np.float32)[:, None], 7, axis=1)


def asked(step: int, **told: Any) -> Ask:
    return Ask(what="infer", step=step, **told)


def given(*asks: Ask) -> Session:
    """Return a session in which these have been answered."""
    one = Session(allowance=Allowance(1.0))
    for ask in asks:
        one.begin(ask)
        assert ask.step is not None
        one.keep(numbered(ask.step), ask)
    return one


def test_what_is_left_of_the_last_chunk_is_continued() -> None:
    one = given(asked(4))
    found = one.underway(asked(7, delay=3), GUIDED)
    assert found is not None
    assert (found.actions[:, 0].tolist(), found.delay) == ([7, 8, 9, 10, 11, 12, 13], 3)
    assert one.underway(asked(7), GUIDED) is None  # nothing told: the robot stands still


def test_a_chunk_that_came_too_late_is_passed_over() -> None:
    """The robot never carried out the chunk of step 3; it is still at that of step 0, as often as that happens."""
    one = given(asked(0), asked(3, delay=2, continues=0), asked(5, delay=2, continues=0))
    found = one.underway(asked(6, delay=2, continues=0), GUIDED)
    assert found is not None
    assert found.actions[0, 0] == 6
    assert len(found.actions) == 4
    newest = one.underway(asked(6, delay=2), GUIDED)
    assert newest is not None
    assert len(newest.actions) == 9


@pytest.mark.parametrize(
    ("before", "ask", "contract", "code", "told"),
    [
        ([], asked(3, delay=1), GUIDED, "forgotten", "none"),
        ([asked(0)], asked(3, delay=1, continues=1), GUIDED, "forgotten", "step 1"),
        ([asked(0)], asked(3, delay=8), GUIDED, "delay", "at most 7"),
        ([asked(0)], asked(10, delay=0), GUIDED, "delay", "at most 0"),
        ([asked(0)], asked(3, delay=3), TRAINED, "delay", "--rtc_max_delay=4"),
        ([asked(0)], asked(3, delay=1), CONTRACT, "unsupported", "--chunking=guided"),
    ],
)
def test_what_cannot_be_continued_is_refused(
    before: list[Ask], ask: Ask, contract: Contract, code: str, told: str
) -> None:
    with pytest.raises(Refused) as error:
        given(*before).underway(ask, contract)
    assert error.value.code == code
    assert told in str(error.value)


@pytest.mark.parametrize("end", [Ask(what="reset"), asked(1, session_id="b"), asked(1, starts_episode=True)])
def test_another_episode_continues_nothing_of_the_one_before(end: Ask) -> None:
    one = given(asked(0), asked(1, delay=1))
    one.begin(end)
    for continues in (None, 0, 1):
        with pytest.raises(Refused, match="not kept"):
            one.underway(Ask(what="infer", step=2, delay=1, continues=continues), GUIDED)


def test_a_chunk_without_a_step_cannot_be_continued() -> None:
    one = Session(allowance=Allowance(1.0))
    one.keep(numbered(0), Ask(what="infer"))
    with pytest.raises(Refused, match="not kept"):
        one.underway(asked(2, delay=1), GUIDED)
