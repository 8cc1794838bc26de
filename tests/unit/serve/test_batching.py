from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from serving import Network, observation

from pi05.errors import DataError, Refused, UserError
from pi05.serve.batching import Answered, Batcher, Question


def question(number: int = 0, **changes: Any) -> Question:
    return Question(observation=observation(number=number), **changes)


def batcher(answer_all: Any, **changes: Any) -> Batcher:
    return Batcher(answer_all, **{"max_batch": 4, "wait_s": 0.0, "max_waiting": 100, **changes})


def numbers(network: Network) -> list[list[int]]:
    return [[one.observation["number"] for one in batch] for batch in network.batches]


class Gate:
    """A network that waits to be let through."""

    def __init__(self) -> None:
        self.network, self.open, self.entered = Network(), threading.Event(), threading.Event()

    def __call__(self, questions: Sequence[Question]) -> Any:
        self.entered.set()
        assert self.open.wait(10)
        return self.network(questions)


async def entered(gate: Gate) -> None:
    while not gate.entered.is_set():
        await asyncio.sleep(0.001)


def test_what_comes_while_the_network_works_is_answered_together_in_order() -> None:
    gate = Gate()

    async def run() -> list[Answered]:
        queue = batcher(gate)
        queue.start()
        first = asyncio.create_task(queue.ask(question(0)))
        await entered(gate)
        others = [asyncio.create_task(queue.ask(question(i))) for i in range(1, 7)]
        await asyncio.sleep(0)
        gate.open.set()
        answers = await asyncio.gather(first, *others)
        await queue.close(1)
        return answers

    answers = asyncio.run(run())
    assert numbers(gate.network) == [[0], [1, 2, 3, 4], [5, 6]]
    assert [answer.batch for answer in answers] == [1, 4, 4, 4, 4, 2, 2]
    assert [answer.actions[0, 0] for answer in answers] == [1, 2, 3, 4, 5, 6, 7]  # each got its own


def test_the_event_loop_is_free_while_the_network_works() -> None:
    gate = Gate()

    async def run() -> int:
        queue, turns = batcher(gate), 0
        queue.start()
        asked = asyncio.create_task(queue.ask(question()))
        await entered(gate)
        for _ in range(100):
            await asyncio.sleep(0)
            turns += 1
        assert not asked.done()
        gate.open.set()
        await asked
        await queue.close(1)
        return turns

    assert asyncio.run(run()) == 100


def test_it_waits_for_those_that_are_expected_and_no_longer_than_it_may() -> None:
    network = Network()

    async def run(expected: int, wait_s: float) -> float:
        queue = batcher(network, wait_s=wait_s, expected=lambda: expected)
        queue.start()
        started = time.monotonic()
        first = asyncio.create_task(queue.ask(question(0)))
        await asyncio.sleep(0.02)
        second = asyncio.create_task(queue.ask(question(1)))
        await asyncio.gather(first, second)
        await queue.close(1)
        return time.monotonic() - started

    asyncio.run(run(2, 30.0))
    assert numbers(network) == [[0, 1]]  # both, and it did not wait for half a minute more
    network.batches.clear()
    asyncio.run(run(1, 30.0))
    assert numbers(network) == [[0], [1]]  # a single client never waits
    network.batches.clear()
    asyncio.run(run(3, 0.1))
    assert numbers(network) == [[0, 1]]  # the third never came


def test_clients_that_follow_each_other_are_waited_for_and_the_burst_has_an_end() -> None:
    network = Network()

    async def run(count: int, apart: float) -> None:
        queue = batcher(network, wait_s=0.4, max_batch=99, expected=lambda: 99)
        queue.start()
        asking = []
        for i in range(count):
            asking.append(asyncio.create_task(queue.ask(question(i))))
            await asyncio.sleep(apart)
        await asyncio.gather(*asking)
        await queue.close(1)

    asyncio.run(run(4, 0.15))  # the last comes 0.45 s after the first
    assert numbers(network) == [[0, 1, 2, 3]]
    network.batches.clear()
    asyncio.run(run(20, 0.1))  # for 2 s one comes after the other, and the first has waited for 1.6 s
    assert len(network.batches) > 1


def test_a_late_question_is_not_asked_and_a_late_answer_not_given() -> None:
    gate = Gate()

    async def run() -> list[Any]:
        queue = batcher(gate)
        queue.start()
        now = time.monotonic()
        slow = asyncio.create_task(queue.ask(question(0, deadline=now + 0.05)))
        await entered(gate)
        waiting = asyncio.create_task(queue.ask(question(1, deadline=now + 0.05)))
        patient = asyncio.create_task(queue.ask(question(2, deadline=now + 60)))
        await asyncio.sleep(0.1)
        gate.open.set()
        found = await asyncio.gather(slow, waiting, patient, return_exceptions=True)
        await queue.close(1)
        return found

    slow, waiting, patient = asyncio.run(run())
    assert isinstance(slow, Refused)
    assert isinstance(waiting, Refused)
    assert (slow.code, waiting.code) == ("late", "late")
    assert isinstance(patient, Answered)
    assert numbers(gate.network) == [[0], [2]]


def test_the_fault_of_one_is_not_that_of_the_others() -> None:
    def some(questions: Sequence[Question]) -> list[Answered | UserError]:
        good = Network()(questions)
        return [
            DataError("bad", remedy="no") if q.observation["number"] == 1 else g
            for q, g in zip(questions, good, strict=True)
        ]

    async def run() -> list[Any]:
        queue = batcher(some, wait_s=5.0, expected=lambda: 3)
        queue.start()
        found = await asyncio.gather(*(queue.ask(question(i)) for i in range(3)), return_exceptions=True)
        await queue.close(1)
        return found

    assert [type(one) for one in asyncio.run(run())] == [Answered, DataError, Answered]


def test_a_fault_of_the_program_costs_one_batch(caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    def faulty(questions: Sequence[Question]) -> Any:
        calls.append(len(questions))
        if len(calls) == 1:
            raise ZeroDivisionError("secret inside")
        return Network()(questions)

    async def run() -> tuple[Any, Any]:
        queue = batcher(faulty)
        queue.start()
        first = (await asyncio.gather(queue.ask(question()), return_exceptions=True))[0]
        second = await queue.ask(question())
        await queue.close(1)
        return first, second

    first, second = asyncio.run(run())
    assert isinstance(first, Refused)
    assert first.code == "internal"
    assert "secret" not in str(first)
    assert "secret inside" in caplog.text
    assert isinstance(second, Answered)


def test_a_full_queue_and_a_closing_one_say_so() -> None:
    gate = Gate()

    async def run() -> list[str]:
        queue = batcher(gate, max_waiting=1)
        queue.start()
        first = asyncio.create_task(queue.ask(question(0)))
        await entered(gate)
        second = asyncio.create_task(queue.ask(question(1)))
        await asyncio.sleep(0)
        codes = []
        for closing in (False, True):
            if closing:
                gate.open.set()
                await queue.close(5)
            try:
                await queue.ask(question(2))
            except Refused as error:
                codes.append(error.code)
        assert [type(one) for one in await asyncio.gather(first, second)] == [Answered, Answered]  # none is cut off
        return codes

    assert asyncio.run(run()) == ["busy", "stopping"]


def test_a_batch_that_takes_longer_than_the_end_may_wait() -> None:
    """Those in the network and those in the queue are told; the network itself cannot be stopped."""
    gate = Gate()

    async def run() -> list[Any]:
        queue = batcher(gate)
        queue.start()
        asked = [asyncio.create_task(queue.ask(question(0)))]
        await entered(gate)
        assert queue.computing
        asked += [asyncio.create_task(queue.ask(question(i))) for i in (1, 2)]
        await asyncio.sleep(0)
        asked[0].cancel()  # the client has gone
        asked.append(asyncio.create_task(queue.ask(question(3))))
        await queue.close(0.05)
        found = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10)
        assert queue.computing
        gate.open.set()
        while queue.computing:
            await asyncio.sleep(0.001)
        return found

    async def alone() -> list[Any]:
        queue = batcher(gate)
        queue.start()
        asked = asyncio.create_task(queue.ask(question(0)))
        await entered(gate)
        await queue.close(0.05)
        found = await asyncio.wait_for(asyncio.gather(asked, return_exceptions=True), 10)
        gate.open.set()
        return list(found)

    gone, *told = asyncio.run(run())
    assert isinstance(gone, asyncio.CancelledError)
    assert [getattr(one, "code", one) for one in told] == ["stopping"] * 3
    gate.open.clear()
    gate.entered.clear()
    assert [getattr(one, "code", one) for one in asyncio.run(alone())] == ["stopping"]


def test_a_network_that_answers_too_few_leaves_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> list[Any]:
        queue = batcher(lambda questions: Network()(questions)[:-1], wait_s=5.0, expected=lambda: 2)
        queue.start()
        asked = asyncio.gather(*(queue.ask(question(i)) for i in range(2)), return_exceptions=True)
        found = await asyncio.wait_for(asked, 10)
        await queue.close(1)
        return found

    assert [getattr(one, "code", type(one)) for one in asyncio.run(run())] == [Answered, "internal"]
    assert "failed on a batch of 2" in caplog.text


def test_those_who_have_gone_do_not_fill_the_queue() -> None:
    gate = Gate()

    async def run() -> None:
        queue = batcher(gate, max_waiting=2)
        queue.start()
        first = asyncio.create_task(queue.ask(question(0)))
        await entered(gate)
        gone = [asyncio.create_task(queue.ask(question(i))) for i in (1, 2)]
        await asyncio.sleep(0)
        gone[0].cancel()
        await asyncio.sleep(0)
        stays = asyncio.create_task(queue.ask(question(3)))
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="more questions"):
            await queue.ask(question(4))
        gate.open.set()
        assert [type(await one) for one in (first, gone[1], stays)] == [Answered] * 3
        await queue.close(1)

    asyncio.run(run())
    assert numbers(gate.network) == [[0], [2, 3]]


def test_one_who_has_gone_holds_nobody_up() -> None:
    gate = Gate()

    async def run() -> None:
        queue = batcher(gate)
        queue.start()
        first = asyncio.create_task(queue.ask(question(0)))
        await entered(gate)
        gone, stays = (asyncio.create_task(queue.ask(question(i))) for i in (1, 2))
        await asyncio.sleep(0)
        first.cancel()
        gone.cancel()
        gate.open.set()
        assert isinstance(await stays, Answered)
        await queue.close(1)

    asyncio.run(run())
    assert numbers(gate.network) == [[0], [2]]
