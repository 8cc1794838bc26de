"""Processes that share an evaluation, each in a thread: locks belong to open files, so that threads are as good."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pi05.errors import EvaluationError
from pi05.eval.company import Company, OtherEnded, launched, local_rank


def together(folder: Path, *works: Callable[[Company], None]) -> list[BaseException | None]:
    """Let each work be done by a process of its own; return how each ended."""
    ends: list[BaseException | None] = [None] * len(works)

    def process(rank: int) -> None:
        try:
            with Company(folder, rank, len(works), start_timeout_s=20.0) as company:
                works[rank](company)
        except BaseException as error:
            ends[rank] = error

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
    return ends


def test_who_is_launched_stands_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (launched(), local_rank()) == ((0, 1), 0)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert (launched(), local_rank()) == ((2, 4), 1)


def test_all_wait_for_the_first_to_prepare_and_the_first_for_all_to_read(tmp_path: Path) -> None:
    happened: list[str] = []

    def first(company: Company) -> None:
        time.sleep(0.3)
        happened.append("prepared")
        company.start()
        company.all_finished()
        company.leave()
        happened.append("left")

    def other(company: Company) -> None:
        company.start()
        happened.append("begun")
        company.all_finished()
        time.sleep(0.3)
        happened.append("read")
        company.leave()

    assert together(tmp_path, first, other, other) == [None] * 3
    assert happened == ["prepared", "begun", "begun", "read", "read", "left"]


def test_shares_are_fixed_and_leave_nothing_out(tmp_path: Path) -> None:
    shares = [Company(tmp_path, rank, 3).share(range(5, 12)) for rank in range(3)]
    assert shares == [[6, 9], [7, 10], [5, 8, 11]]


def test_an_error_of_one_ends_the_others_with_its_words(tmp_path: Path) -> None:
    def first(company: Company) -> None:
        company.start()
        company.all_finished()

    def other(company: Company) -> None:
        company.start()
        raise EvaluationError("the policy's actions are not finite numbers", remedy="use another")

    ends = together(tmp_path, first, other)
    assert isinstance(ends[0], OtherEnded)
    assert "process 1 of this evaluation has ended" in str(ends[0])
    assert "the policy's actions are not finite numbers" in str(ends[0])


def test_one_that_vanishes_is_noticed_while_others_work(tmp_path: Path) -> None:
    def first(company: Company) -> None:
        company.start()
        while True:
            company.require_all()
            time.sleep(0.05)

    def other(company: Company) -> None:
        company.start()
        company._say("here")  # and then it is gone, as a killed process is

    ends = together(tmp_path, first, other)
    assert "was it killed?" in str(ends[0])


def test_one_that_does_not_come_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "rank-1").write_text("here")  # of an evaluation that was killed
    late = pytest.raises(EvaluationError, match="process 1 of this evaluation has not come")
    with late, Company(tmp_path, 0, 2, start_timeout_s=0.5) as company:
        company.start()


def test_two_evaluations_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pi05.eval.company.HOLD_TIMEOUT_S", 0.3)
    taken = pytest.raises(EvaluationError, match="another process evaluates in this folder")
    with Company(tmp_path), taken, Company(tmp_path):
        pass
    with Company(tmp_path):
        pass
