"""Environments in processes of their own, each answering when it is done: nobody waits for the slowest.

A process that dies, or does not answer in time, is replaced, and its episode ends as an error (`rollout.py` repeats
it). After an exception of the simulator the process is replaced too. The first process tells how much memory an
environment takes; then as many more are started as are wanted and fit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from pi05.errors import EvaluationError
from pi05.eval.episode import EpisodePlan, EpisodeResult
from pi05.eval.places.memory import free_memory, how_many_more
from pi05.eval.places.place import EnvironmentFacts, Turn
from pi05.eval.places.process import PlaceProcess
from pi05.eval.places.worker import Answer, NotMade
from pi05.sim.kept_process import HasEnded, Refused, wait_for
from pi05.sim.protocol import Environment

SECONDS_TO_CLOSE = 5.0
GIB = 2**30


class PlacesInProcesses:
    """Up to `count` processes (one for each CPU core when None), each with one environment."""

    def __init__(
        self, make: Callable[[], Environment], count: int | None, timeout_s: float, tell: Callable[[str], None]
    ) -> None:
        self._make, self._timeout_s, self._tell = make, timeout_s, tell
        self._sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes of this evaluation on this machine
        self.wanted = count or max(1, len(os.sched_getaffinity(0)) // self._sharing)
        self._limit = 1
        self._processes: list[PlaceProcess] = []
        self._turns: dict[int, Turn] = {}
        self.memory_bytes: int | None = None
        """Most memory that one environment's process has held."""

    @property
    def count(self) -> int:
        """Processes that may run now."""
        return self._limit

    def __enter__(self) -> PlacesInProcesses:
        try:
            first = self._start()
            if not wait_for([first], self._timeout_s):
                raise self._impossible(f"no answer within {self._timeout_s:g} s: {first.last_words()}")
            self.facts = self._begun(first, first.receive())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.end(SECONDS_TO_CLOSE if process.ready and process.plan is None else 0.0)
        self._processes = []

    def _start(self) -> PlaceProcess:
        self._processes.append(PlaceProcess(self._make, beside=self.wanted * self._sharing))
        return self._processes[-1]

    def _begun(self, process: PlaceProcess, answer: Answer) -> EnvironmentFacts:
        if isinstance(answer, Refused):
            raise answer.error()
        if isinstance(answer, NotMade):
            raise self._impossible(answer.text)
        if isinstance(answer, HasEnded):
            raise self._impossible(_end_of(answer))
        assert isinstance(answer, EnvironmentFacts)  # the first answer of a process
        process.ready = True
        return answer

    def _impossible(self, found: str) -> EvaluationError:
        return EvaluationError(
            "the environment cannot be made in a process of its own",
            found=found,
            remedy="repair the simulator, or give it more time with --timeout_s; pi05 doctor looks at rendering",
        )

    def free(self) -> list[str | None]:
        """Return the last task of each process that waits for an episode."""
        return [process.last_task for process in self._processes if process.ready and process.plan is None]

    def begin(self, plan: EpisodePlan, last_task: str | None) -> None:
        """Begin an episode in a free process."""
        process = next(p for p in self._processes if p.ready and p.plan is None and p.last_task == last_task)
        process.plan, process.last_task = plan, plan.task
        process.ask(plan)

    def execute(self, episode: int, actions: Float[np.ndarray, "A n"]) -> None:
        """Let a process carry out the actions; it answers when it is done."""
        next(p for p in self._processes if p.plan is not None and p.plan.index == episode).ask(actions)

    def turns(self, *, wait: bool) -> Mapping[int, Turn]:
        """Return the answers that are there; with `wait` after at least one answer, or a process more or less."""
        pending = [process for process in self._processes if process.plan is not None or not process.ready]
        soonest = min((p.asked_at for p in pending), default=time.monotonic()) + self._timeout_s - time.monotonic()
        for process in wait_for(pending, soonest if wait else 0.0):
            self._take(process, process.receive())
        for process in list(self._processes):
            late = time.monotonic() - process.asked_at > self._timeout_s
            if late and process in pending and not process.connection.closed and not process.connection.poll():
                self._lose(process, f"the environment did not answer within {self._timeout_s:g} s")
        answers, self._turns = self._turns, {}
        return answers

    def _take(self, process: PlaceProcess, answer: Answer) -> None:
        if isinstance(answer, Refused):
            raise answer.error()
        if isinstance(answer, EnvironmentFacts):
            process.ready = True
            return
        if isinstance(answer, NotMade):
            self._lose(process, f"the environment could not be made again: {answer.text}")
            return
        if isinstance(answer, HasEnded):
            self._lose(process, _end_of(answer))
            return
        self._note_memory(answer.memory_bytes)
        assert process.plan is not None  # only who was asked answers
        self._turns[process.plan.index] = answer
        if answer.result is not None:
            process.plan = None
            if answer.result.outcome == "error":
                self._replace(process)

    def _lose(self, process: PlaceProcess, why: str) -> None:
        """End a process that died or hangs, start another one, and let its episode end as an error."""
        plan, begun = process.plan, process.ready
        self._replace(process)
        if plan is not None:
            result = EpisodeResult(
                index=plan.index,
                seed=plan.seed,
                instruction="",
                asked="",
                outcome="error",
                steps=0,
                error=why,
                task=plan.task,
            )
            self._turns[plan.index] = Turn(result=result)
        elif not begun:
            raise self._impossible(why)

    def _replace(self, process: PlaceProcess) -> None:
        self._processes.remove(process)
        process.end()
        self._start()

    def _note_memory(self, memory_bytes: int | None) -> None:
        """Start the further processes when the first has shown what they take."""
        first = self.memory_bytes is None
        self.memory_bytes = max(memory_bytes or 0, self.memory_bytes or 0)
        if not first:
            return
        missing = self.wanted - len(self._processes)
        free = free_memory()
        share = None if free is None else free // self._sharing
        fit = how_many_more(self.memory_bytes, share, missing) if self.memory_bytes else missing
        self._limit = len(self._processes) + fit
        if fit < missing:
            self._tell(
                f"note: {self._limit} instead of {self.wanted} environments side by side: each takes "
                f"{self.memory_bytes / GIB:.1f} GiB of memory, and {(share or 0) / GIB:.1f} GiB are free"
            )
        for _ in range(fit):
            self._start()


def _end_of(answer: HasEnded) -> str:
    return f"the environment's process {answer.how}"
