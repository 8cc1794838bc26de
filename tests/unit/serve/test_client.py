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


def test_what_the_server_refuses_is_raised_and_the_robot_goes_on() -> None:
    with listening() as (address, _), PolicyClient(address) as robot:
        with pytest.raises(Refused, match=r"side' is unknown") as error:
            robot.infer(observation(**{"observation.images.side": np.zeros((4, 4, 3), np.uint8)}))
        assert error.value.code == "observation"
        assert error.value.wanted is not None
        assert robot.infer(observation(), seed=3)["actions"].shape == (10, 7)


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
