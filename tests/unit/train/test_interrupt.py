"""Signals become a wish, a second one an order, and afterwards everything is as before."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from pi05 import cli
from pi05.train.interrupt import PASSED_ON_SECONDS, StopRequest, listen, sigterm_as_interrupt


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")]
)
def test_a_signal_is_a_wish(number: signal.Signals, name: str) -> None:
    before = signal.getsignal(number)
    with listen() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.name == name
        for again in (signal.SIGTERM, signal.SIGHUP):  # the run is being saved already
            os.kill(os.getpid(), again)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(number) is before


def test_a_signal_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listen() as stop, sigterm_as_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_that_torchrun_repeats_is_one_wish() -> None:
    with listen(passed_on=True) as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert stop.name == "SIGTERM"
        stop.time -= PASSED_ON_SECONDS + 1
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_wish_of_another_process_counts_here_too() -> None:
    request = StopRequest()
    assert not request.agreed(lambda flag: flag)
    assert request.agreed(lambda flag: True)
    assert request.name == "SIGTERM"
    request.signal = signal.SIGINT
    assert request.agreed(lambda flag: flag)
    assert request.name == "Ctrl-C"


def test_a_signal_while_all_are_asked_is_one_for_the_next_time() -> None:
    """A process that ended at once would leave the others, who were told no, in a step without it."""

    def ask(flag: bool) -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        return flag

    with listen() as stop:
        assert not stop.agreed(ask)
        assert stop.agreed(ask)
        assert stop.name == "SIGTERM"


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    during: list[object] = []

    def work() -> None:
        with listen() as stop:
            during.extend([signal.getsignal(signal.SIGTERM), bool(stop)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert during == [before, False]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_ends_a_command_as_ctrl_c_does(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_under_torchrun_sigterm_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    before = signal.getsignal(signal.SIGTERM)
    with sigterm_as_interrupt():
        assert signal.getsignal(signal.SIGTERM) is before


def test_a_command_that_is_terminated_while_it_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)

    def terminated(_words: list[str]) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    monkeypatch.setattr(cli, "_dispatch", terminated)
    assert cli.main(["train"]) == cli.INTERRUPTED
    assert "Interrupted." in capsys.readouterr().err
