"""Questions of several clients, answered by one network in one worker thread, several at once where they meet.

Order is that of arrival. A question waits for others only while the network is idle and other clients are expected: at
most `wait_s` for the next, and `BURST` times that for all who follow each other. One whose deadline passes, in the
queue or in the network, is refused: a late chunk is worth nothing to a robot that has moved on. The event loop stays
free. Leaves out what an answer is (`engine.py`). No torch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pi05.data.robot.recent_looks import RecentLooks
from pi05.errors import Refused, UserError
from pi05.serve.underway import Underway

logger = logging.getLogger(__name__)

BURST = 4
"""Clients that were answered together ask again together, but their pictures arrive one after the other: a wait that
ended a fixed time after the first of them would cut a batch of eight in two."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """One observation that waits for its actions."""

    observation: Mapping[str, Any]
    """Under the policy's names."""
    underway: Underway | None = None
    """What the robot is doing meanwhile, which the actions shall continue; None: nothing."""
    looks: RecentLooks = field(default_factory=RecentLooks)
    """What the same robot's cameras showed before."""
    seed: int | None = None
    deadline: float | None = None
    """On the clock of `time.monotonic`, in seconds."""
    arrived: float = field(default_factory=time.monotonic)

    def late(self) -> bool:
        """Tell whether nobody can use the answer any more."""
        return self.deadline is not None and time.monotonic() > self.deadline


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """The actions for one question."""

    actions: np.ndarray
    """float32[A, n], in robot units."""
    warnings: tuple[str, ...] = ()
    infer_ms: float
    batch: int
    """How many questions the network saw at once."""


Waiting = tuple[Question, asyncio.Future[Answered]]
AnswerAll = Callable[[Sequence[Question]], Sequence[Answered | UserError]]
"""Answers a batch; what one question has wrong becomes its own error."""


class Batcher:
    """The queue before the network."""

    def __init__(
        self,
        answer_all: AnswerAll,
        *,
        max_batch: int,
        wait_s: float,
        max_waiting: int,
        expected: Callable[[], int] = lambda: 1,
        measure: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        """`expected` tells how many clients are likely to ask about now; `measure` gets each batch's size and time."""
        self._answer_all, self._measure, self._expected = answer_all, measure, expected
        self.max_batch, self.wait_s, self.max_waiting = max_batch, wait_s, max_waiting
        self._waiting: deque[Waiting] = deque()
        self._arrival = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="pi05-network")
        self._computed: Future[Sequence[Answered | UserError]] | None = None
        self._running: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def waiting(self) -> int:
        """Questions in the queue."""
        return len(self._waiting)

    @property
    def computing(self) -> bool:
        """Whether the network works on a batch: it cannot be stopped, and Python waits for its thread at the end."""
        return self._computed is not None and not self._computed.done()

    def start(self) -> None:
        """Begin to answer."""
        self._running = asyncio.create_task(self._run())

    async def ask(self, question: Question) -> Answered:
        """Return the answer. Raises Refused for one that is too late or too many, UserError for a wrong observation."""
        if self._closing:
            raise stopping()
        if self._running is None or self._running.done():  # better a refusal than a robot that waits for ever
            raise failed()
        if len(self._waiting) >= self.max_waiting:  # those who have gone do not wait any more
            self._waiting = deque(one for one in self._waiting if not one[1].done())
        if len(self._waiting) >= self.max_waiting:
            raise Refused(
                "the server has more questions than it can answer",
                code="busy",
                found=f"{len(self._waiting)} are waiting",
                remedy="ask again, with fewer robots or less often",
            )
        future: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        self._arrival.set()
        return await future

    async def close(self, within_s: float) -> None:
        """Answer what is waiting and in progress, for some seconds; refuse the rest and all that comes."""
        self._closing = True
        self._arrival.set()
        if self._running is not None:
            await asyncio.wait([self._running], timeout=within_s)
            self._running.cancel()
            await asyncio.wait([self._running])
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        try:
            while self._waiting or not self._closing:
                if await self._gather() and (chosen := self._take()):
                    await self._answer(chosen)
        finally:  # whatever ends this: nobody waits for ever
            self._refuse(self._waiting)
            self._waiting.clear()

    async def _answer(self, chosen: Sequence[Waiting]) -> None:
        started = time.monotonic()
        try:
            self._computed = self._worker.submit(self._answer_all, [one for one, _ in chosen])
            answers = await asyncio.wrap_future(self._computed)
            for (question, future), answer in zip(chosen, answers, strict=True):
                if not future.done():  # the client may have gone
                    _settle(question, future, answer)
        except Exception:  # a fault of the program or the machine: told here, and the next batch may do
            logger.exception("the network failed on a batch of %d", len(chosen))
        finally:  # cancelled, too, when the network takes longer than a server that ends may wait
            self._refuse(chosen)
        self._measure(len(chosen), time.monotonic() - started)

    def _refuse(self, left: Iterable[Waiting]) -> None:
        """Tell those who have no answer yet that there will be none."""
        for _, future in left:
            if not future.done():
                future.set_exception(stopping() if self._closing else failed())

    async def _gather(self) -> bool:
        """Wait for a first question, then a little for those of the others; tell whether there is one."""
        if not self._waiting:
            self._arrival.clear()
            if not self._closing:
                await self._arrival.wait()
            if not self._waiting:
                return False
        started = latest = time.monotonic()
        while len(self._waiting) < min(self.max_batch, self._expected()) and not self._closing:
            left = min(latest + self.wait_s, started + BURST * self.wait_s) - time.monotonic()
            if left <= 0:
                break
            self._arrival.clear()
            try:
                await asyncio.wait_for(self._arrival.wait(), left)
            except TimeoutError:
                break
            latest = time.monotonic()
        return True

    def _take(self) -> list[Waiting]:
        """Take the next batch out of the queue, the oldest first; refuse what is late already."""
        chosen: list[Waiting] = []
        while self._waiting and len(chosen) < self.max_batch:
            question, future = self._waiting.popleft()
            if future.done():
                continue
            if question.late():
                future.set_exception(late(question))
            else:
                chosen.append((question, future))
        return chosen


def _settle(question: Question, future: asyncio.Future[Answered], answer: Answered | UserError) -> None:
    if isinstance(answer, UserError):
        future.set_exception(answer)
    elif question.late():
        future.set_exception(late(question))
    else:
        future.set_result(answer)


def late(question: Question) -> Refused:
    """Return the refusal of a question whose answer would come too late."""
    waited, given = 1000 * (time.monotonic() - question.arrived), 1000 * ((question.deadline or 0) - question.arrived)
    return Refused(
        "the answer would come after its deadline",
        code="late",
        wanted=f"an answer within {given:.0f} ms",
        found=f"{waited:.0f} ms have passed",
        remedy="send a newer observation; allow more time, or serve fewer robots with this machine",
    )


def stopping() -> Refused:
    """Return the refusal of a server that is about to end."""
    return Refused("the server is stopping", code="stopping", remedy="connect again when it is back")


def failed() -> Refused:
    """Return what a client is told of a fault of the program: nothing of its insides."""
    return Refused(
        "the server failed to answer", code="internal", remedy="read the server's log; the connection can go on"
    )
