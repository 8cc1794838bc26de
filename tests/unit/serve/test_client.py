from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from serving import CONTRACT, STATE, Network, listening, observation
from websockets.sync.server import serve as serve_sync

from pi05.errors import Refused, ServeError
from pi05.serve.batching import Answered, Question
from pi05.serve.bounds import MOST_ITEMS
from pi05.serve.chunks import Delays
from pi05.serve.client import PolicyClient


def test_a_robot_runs_its_loop() -> None:
    network = Network()
    with listening(network) as (address, _), PolicyClient(address, control_rate_hz=20.0) as robot:
        robot.require(cameras=["image", "image2"], action_names=tuple("xyzabcg"))
        actions = [float(robot.next_action(observation())[0]) for _ in range(7)]
        assert actions == pytest.approx([1.0, 1.01, 1.02, 2.0, 2.01, 2.02, 3.0])  # three of each chunk
        robot.reset()
        assert robot.next_action(observation())[0] == 4.0
        assert set(robot.latency_ms()) == {"p50", "p95", "p99"}
        assert 0 < robot.latency_ms()["p50"] <= robot.latency_ms()["p99"]


def test_what_the_cameras_showed_outlives_an_episode() -> None:
    network = Network()
    with listening(network) as (address, server), PolicyClient(address) as robot, PolicyClient(address) as other:
        for _ in range(3):
            robot.reset()
            robot.infer(observation(), step=9)
            assert {one.last_step for one in server.sessions} == {9, None}
        other.infer(observation())
    looks = [batch[0].looks for batch in network.batches]
    assert looks[0] is looks[1] is looks[2]
    assert looks[3] is not looks[0]


def test_aligned_chunks_skip_the_steps_that_have_passed() -> None:
    gate = threading.Event()
    gate.set()

    def network(questions: Sequence[Question]) -> list[Answered]:
        """Answer with actions that tell the step that they are for."""
        assert gate.wait(30)
        at = float(questions[0].observation[STATE][0])
        chunk = np.zeros((10, 7), np.float32) + at + np.arange(10, dtype=np.float32)[:, None]
        return [Answered(actions=chunk, infer_ms=1.0, batch=1)]

    with listening(network) as (address, _), PolicyClient(address, mode="aligned") as robot:
        found = []
        for step in range(8):
            if step == 3:
                gate.clear()  # the next chunk is asked for now, and takes two steps
            if step == 5:
                gate.set()
                while robot._coming is not None and not robot._coming.answer.done():
                    time.sleep(0.001)
            found.append(float(robot.next_action(observation(**{STATE: np.full(8, step, np.float32)}))[0]))
        assert found == list(range(8))  # from either chunk, the action for this very step


# --- chunks that are continued ----------------------------------------------------------------------------------------

SLOW_HZ = 0.1
"""A control step lasts ten seconds, so that what an answer takes on a busy machine is one step."""
GUIDED = replace(CONTRACT, chunking="guided", control_rate_hz=SLOW_HZ, warm_s=19.0)


class Continuing:
    """Answers with a chunk that is 100 further than the one before; what was asked is remembered."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, questions: Sequence[Question]) -> list[Answered]:
        assert self.gate.wait(30)
        self.asked += questions
        at = np.float32(100 * len(self.asked)) + np.arange(10, dtype=np.float32)[:, None]
        return [Answered(actions=at + np.zeros((1, 7), np.float32), infer_ms=1.0, batch=1) for _ in questions]


def settle(robot: PolicyClient) -> None:
    """Wait until what was asked for is there."""
    until = time.monotonic() + 30
    while robot._coming is not None and not robot._coming.answer.done():
        assert time.monotonic() < until
        time.sleep(0.001)


def walk(robot: PolicyClient, steps: int) -> list[float]:
    """Go some steps, none before the answer is there."""
    found = []
    for _ in range(steps):
        found.append(float(robot.next_action(observation())[0]))
        settle(robot)
    return found


def guided_robot(address: str, **changes: Any) -> PolicyClient:
    return PolicyClient(address, mode="aligned", control_rate_hz=SLOW_HZ, deadline_ms=60_000, **changes)


def test_a_robot_tells_what_it_carries_out_until_the_next_chunk_takes_over() -> None:
    network = Continuing()
    with listening(network, contract=GUIDED) as (address, server), guided_robot(address) as robot:
        found = walk(robot, 9)
        assert found == [100, 101, 102, 103, 104, 202, 203, 204, 302]  # asked at 3 and 6, there at once, used two later
        assert robot.overdue == 0
        first, second, third = (question.underway for question in network.asked[:3])
        assert first is None
        assert second is not None
        assert (second.delay, second.actions[:, 0].tolist()) == (2, [103, 104, 105, 106, 107, 108, 109])
        assert third is not None
        assert third.actions[0, 0] == 203
        assert server.metrics.continued == 2
        assert "pi05_continued_answers_total 2" in server.metrics.render(0, True)


def test_a_chunk_that_comes_later_than_told_is_counted_and_forecast(caplog: pytest.LogCaptureFixture) -> None:
    network = Continuing()
    with listening(network, contract=GUIDED) as (address, _), guided_robot(address) as robot:
        assert walk(robot, 3) == [100, 101, 102]
        network.gate.clear()
        late = [float(robot.next_action(observation())[0]) for _ in range(4)]
        network.gate.set()
        settle(robot)
        assert late + walk(robot, 1) == [103, 104, 105, 106, 204]
        assert robot.overdue == 1
        assert "came 4 control steps after its observation, not 2" in caplog.text
        walk(robot, 1)
        assert network.asked[-1].underway is not None
        assert network.asked[-1].underway.delay == 4


def test_after_a_lost_connection_the_robot_ends_its_chunk_and_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    network = Continuing()
    with listening(network, contract=GUIDED) as (address, _), guided_robot(address, reconnect_s=20.0) as robot:
        assert walk(robot, 3) == [100, 101, 102]
        robot._line._connection.socket.shutdown(2)
        assert walk(robot, 7) == [103, 104, 105, 106, 107, 108, 109]
        assert "has forgotten the chunk" in caplog.text
        assert walk(robot, 4) == [200, 201, 202, 203]
        assert [question.underway is None for question in network.asked] == [True, True, False]


def test_what_a_lost_connection_cost_forecasts_no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[int] = []
    monkeypatch.setattr(Delays, "note", lambda self, steps: noted.append(steps))
    with listening(Continuing(), contract=GUIDED) as (address, _), guided_robot(address, reconnect_s=20.0) as robot:
        robot._line._connection.socket.shutdown(2)
        assert walk(robot, 3) == [100, 101, 102]
        assert noted == []
        assert walk(robot, 3) == [103, 104, 202]
        assert noted == [1]


def test_a_delay_that_was_not_trained_is_not_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    network = Continuing()
    trained = replace(GUIDED, chunking="trained", max_delay=1)  # two steps are expected
    with listening(network, contract=trained) as (address, _), guided_robot(address) as robot:
        assert walk(robot, 11) == [*range(100, 110), 200]
        assert [question.underway for question in network.asked] == [None, None]
        assert "a delay of 2 control steps is expected, and the policy was trained for 1" in caplog.text
        with pytest.raises(Refused, match="so long a delay") as error:  # nor would the server do it
            robot.infer(observation(), step=11, delay=2)
        assert error.value.code == "delay"


def test_no_more_is_promised_than_the_chunk_holds() -> None:
    network = Continuing()
    slow = replace(GUIDED, warm_s=95.0)
    with listening(network, contract=slow) as (address, _), guided_robot(address) as robot:
        assert walk(robot, 11) == [*range(100, 110), 207]
        assert network.asked[1].underway is not None
        assert network.asked[1].underway.delay == 7


def test_a_delay_needs_a_rate_and_a_server_that_continues() -> None:
    with listening(contract=replace(GUIDED, control_rate_hz=None)) as (address, _):
        with pytest.raises(ServeError, match="control steps"):
            PolicyClient(address, mode="aligned")
        PolicyClient(address).close()
    with listening() as (address, _), PolicyClient(address) as robot:
        robot.infer(observation(), step=0)
        with pytest.raises(Refused, match="does not continue chunks") as error:
            robot.infer(observation(), step=1, delay=1)
        assert error.value.code == "unsupported"
        with pytest.raises(Refused, match="cannot be read"):
            robot.infer(observation(), delay=1)
        assert robot.infer(observation(), step=2)["actions"].shape == (10, 7)


def test_what_the_server_refuses_is_raised_and_the_robot_goes_on() -> None:
    with listening() as (address, _), PolicyClient(address) as robot:
        with pytest.raises(Refused, match=r"side' is unknown") as error:
            robot.infer(observation(**{"observation.images.side": np.zeros((4, 4, 3), np.uint8)}))
        assert error.value.code == "observation"
        assert error.value.wanted is not None
        assert robot.infer(observation(), seed=3)["actions"].shape == (10, 7)


def test_what_the_server_could_not_read_is_told_at_once() -> None:
    """And not waited for until it is certain that no answer comes."""
    too_much = observation(more=list(range(MOST_ITEMS + 1)))
    for code, asked, limits in (("malformed", too_much, {}), ("rate", observation(), {"max_requests_per_s": 0.01})):
        with listening(**limits) as (address, _), PolicyClient(address) as robot:
            assert robot.infer(observation())["actions"].shape == (10, 7)
            started = time.monotonic()
            with pytest.raises(Refused) as error:
                robot.infer(asked)
            assert error.value.code == code
            assert time.monotonic() - started < 20


def test_one_that_is_closed_does_not_come_back() -> None:
    """While its question is in progress in the background, above all: nobody would close the new connection."""
    entered, leave, network = threading.Event(), threading.Event(), Network()

    def slow(questions: Sequence[Question]) -> Any:
        if network.count:
            entered.set()
            assert leave.wait(30)
        return network(questions)

    with listening(slow) as (address, server):
        robot = PolicyClient(address, mode="aligned", reconnect_s=20.0)
        for _ in range(4):
            robot.next_action(observation())
        assert entered.wait(30)
        coming = robot._coming
        robot.close()
        assert coming is not None
        with pytest.raises(ServeError, match="closed by its own program"):
            coming.answer.result(timeout=30)
        with pytest.raises(ServeError, match="closed by its own program"):
            robot.infer(observation())
        leave.set()
        assert server.metrics.connections == 1


def test_one_that_does_not_fit_leaves_no_connection() -> None:
    with listening(max_clients=1) as (address, server):
        for _ in range(3):
            with pytest.raises(ServeError, match="control rate"):
                PolicyClient(address, control_rate_hz=30.0)
            until = time.monotonic() + 10
            while server.sessions and time.monotonic() < until:
                time.sleep(0.005)
            assert not server.sessions


def test_a_late_answer_is_not_executed() -> None:
    with listening(Network(seconds=0.1)) as (address, _), PolicyClient(address, deadline_ms=20) as robot:
        with pytest.raises(Refused) as error:
            robot.next_action(observation())
        assert robot.contract == CONTRACT
        assert error.value.code == "late"


def test_another_rate_or_robot_is_told_before_anything_moves() -> None:
    with listening() as (address, _):
        with pytest.raises(ServeError, match="control rate"):
            PolicyClient(address, control_rate_hz=30.0)
        with PolicyClient(address) as robot:
            for wrong in ({"cameras": ["image"]}, {"cameras": ["image", "image2", "x"]}, {"action_names": "abcdefg"}):
                with pytest.raises(ServeError, match="does not fit"):
                    robot.require(**wrong)


def test_it_comes_back_after_a_lost_connection_and_asks_again() -> None:
    with listening() as (address, server):
        port = int(address.rpartition(":")[2])
        with PolicyClient(address, reconnect_s=20.0) as robot:
            robot.infer(observation())
            robot._line._connection.socket.shutdown(2)  # the cable is pulled
            assert robot.infer(observation())["actions"].shape == (10, 7)
        assert server.metrics.connections == 2
    network = Network()
    with listening(network) as (address, _):
        robot = PolicyClient(address, reconnect_s=20.0)
        port = int(address.rpartition(":")[2])
        robot.infer(observation())
    with listening(network, port=port) as (address, _), robot:  # the server was started again
        assert robot.infer(observation())["actions"][0, 0] == 2.0


def test_another_policy_behind_the_address_is_refused() -> None:
    with listening() as (address, _):
        robot = PolicyClient(address, reconnect_s=20.0)
        port = int(address.rpartition(":")[2])
    other = replace(CONTRACT, checkpoint="d" * 64)
    with listening(port=port, contract=other), robot, pytest.raises(ServeError, match="another policy"):
        robot.infer(observation())


def test_nobody_there_and_somebody_else() -> None:
    with pytest.raises(ServeError, match="no policy server"):
        PolicyClient("ws://127.0.0.1:1")
    with pytest.raises(ServeError, match="no policy server"):
        PolicyClient("http://127.0.0.1:1")

    def openpi(connection: Any) -> None:
        connection.send(b"\x80")
        connection.close()

    with serve_sync(openpi, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        with pytest.raises(ServeError, match="does not say what its policy needs"):
            PolicyClient(f"ws://127.0.0.1:{port}")
        server.shutdown()
        thread.join()


def test_with_a_key() -> None:
    key = "correct horse battery"
    with listening(key=key) as (address, server):
        with PolicyClient(address, key=key) as robot:
            assert robot.infer(observation())["actions"].shape == (10, 7)
        for wrong in (None, "correct horse batterz"):
            with pytest.raises(ServeError, match="401"):
                PolicyClient(address, key=wrong)
        assert server.metrics.turned_away["key"] == 2


@pytest.mark.process
def test_a_robots_computer_needs_no_torch() -> None:
    program = "import sys, pi05.serve.client, pi05.serve.protocol; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"
