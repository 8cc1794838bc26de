from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from serving import (
    CONTRACT,
    PROTOCOL,
    SCENE,
    STATE,
    WRIST,
    Network,
    listening,
    observation,
    opened,
    packed,
    png,
    recorded,
    server_of,
    session,
    talk,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from pi05.serve import server as server_module
from pi05.serve.arrays import MSGPACK_NUMPY, OPENPI, VLA_EVAL, pack, unpack
from pi05.serve.bounds import MOST_ITEMS
from pi05.serve.server import LIKELY_S

LIBERO = {
    "observation/image": np.full((4, 5, 3), 9, np.uint8),
    "observation/wrist_image": np.full((4, 5, 3), 8, np.uint8),
    "observation/state": np.zeros(8, np.float32),
    "prompt": "do something",
}


# --- recorded conversations -------------------------------------------------------------------------------------------


def test_the_recorded_conversation_of_openpis_client() -> None:
    """Its bytes as they were sent; what stopped openpi's server is an error frame here, and the connection goes on."""
    sent = [(opcode, body) for way, opcode, body in recorded("wire") if way.startswith("c")]
    frames: list[Any] = [body if opcode == 2 else body.decode() for opcode, body in sent]
    assert len(frames) == 7
    answers = talk([*frames, LIBERO])
    refused = [answer for answer in answers[:-1] if isinstance(answer, str)]
    assert len(refused) == 7  # its policy had other inputs; each is told as text, which the client raises
    assert sum("cannot be read" in answer for answer in refused) == 3  # no msgpack, a text frame, an int as key
    assert answers[-1]["actions"].shape == (10, 7)


def test_the_recorded_observation_is_answered_when_it_is_complete() -> None:
    frame = next(body for way, opcode, body in recorded("wire") if way == "c3->s" and opcode == 2)
    message, dialect = unpack(frame)
    assert dialect == OPENPI
    del message["observation/image"], message["observation/state"], message["prompt"]
    answers = talk([{**message, **LIBERO}] * 2)
    assert list(answers[0]) == ["actions", "policy_timing", "server_timing"]
    assert set(answers[0]["server_timing"]) == {"infer_ms"}
    assert set(answers[1]["server_timing"]) == {"infer_ms", "prev_total_ms"}  # as openpi's server has it


def test_the_recorded_conversation_of_starvlas_client() -> None:
    sent = [(opcode, body) for way, opcode, body in recorded("starvla") if way == "c1->s" and opcode == 2]
    answered = [unpack(body)[0] for way, opcode, body in recorded("starvla") if way == "s->c1" and opcode == 2][1:]
    answers = talk([body.replace(b"\xa6franka", b"\xa4pi05") for _, body in sent])
    for mine, theirs in zip(answers[:2], answered[:2], strict=True):
        assert list(mine) == list(theirs)
        assert (mine["status"], mine["type"], mine["request_id"]) == ("ok", "inference_result", theirs["request_id"])
        assert mine["data"]["actions"].shape == (1, 10, 7)
    unknown, ping, reset, init = answers[2:6]
    assert (unknown["status"], unknown["ok"]) == ("error", False)
    assert "nope" in unknown["error"]["message"]
    assert ping == answered[3]
    assert (reset["status"], reset["request_id"]) == ("ok", "r3")  # which StarVLA's own server refuses
    assert (init["status"], init["request_id"]) == ("error", "r4")
    assert "is missing" in answers[6]  # without examples it is openpi's, and is answered so
    assert "cannot be read" in answers[7]


def test_the_recorded_conversation_of_vla_evals_client() -> None:
    sent = [body for way, opcode, body in recorded("vla_eval") if way == "c1->s" and opcode == 2]
    network = Network()
    answers = talk(sent, network)
    kinds = [unpack(body)[0]["type"] for body in sent]
    for kind, answer, body in zip(kinds, answers, sent, strict=True):
        if kind != "observation":
            assert answer is None, f"{kind} must not be answered: it would be taken for the next action"
        else:
            assert answer["seq"] == unpack(body)[0]["seq"]
    shown = [answer for answer in answers if answer is not None]
    assert [answer["type"] for answer in shown] == ["action", "action", "action", "error", "action", "action"]
    actions = [round(float(one["payload"]["actions"][0]), 2) for one in shown if one["type"] == "action"]
    # three actions of the first chunk (PNG, raw, JPEG); the fourth question is a new one, and lacks its state; each
    # start of an episode takes a new chunk
    assert actions == [1.0, 1.01, 1.02, 3.0, 4.0]
    assert shown[0]["payload"]["actions"].shape == (7,)
    first = network.batches[0][0].observation
    assert (first[SCENE].shape, first[WRIST].shape, first[STATE].shape) == ((4, 5, 3), (4, 5, 3), (8,))


def test_sglangs_and_vllm_omnis_messages() -> None:
    lines = map(json.loads, (PROTOCOL / "openpi_family_made.jsonl").read_text().splitlines())
    by_name = {line["what"]: bytes.fromhex(line["hex"]) for line in lines if "what" in line}
    wrong_sizes = talk([by_name["vllm-omni c->s infer"], by_name["vllm-omni c->s reset"], by_name["sglang c->s"]])
    assert wrong_sizes[0]["type"] == "error"  # four sampling steps are the server's to choose
    assert "sampling steps" in wrong_sizes[0]["message"]
    assert wrong_sizes[1] == {"status": "reset successful"}
    assert "is missing" in wrong_sizes[2]


# --- dialects, sessions, refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", [OPENPI, VLA_EVAL, MSGPACK_NUMPY])
def test_each_is_answered_in_the_arrays_that_it_sent(dialect: Any) -> None:
    async def run() -> bytes | str | None:
        async with server_of(Network()) as server:
            return await server.answer(session(), packed(LIBERO, dialect))

    frame = asyncio.run(run())
    assert isinstance(frame, bytes)
    assert unpack(frame)[1] == dialect


def test_a_refused_message_costs_one_answer() -> None:
    wrong = [b"\xc1", {**LIBERO, "observation/side": np.zeros((4, 4, 3), np.uint8)}, {"endpoint": "kill"}, b"", "hi"]
    answers = talk([LIBERO, *wrong, LIBERO])
    assert [type(answer) for answer in answers] == [dict, str, str, dict, dict, dict, dict]
    assert answers[-1]["actions"].shape == (10, 7)
    assert answers[-2]["type"] == "error"  # unreadable, after vLLM-Omni's message: answered as to vLLM-Omni


def test_a_fault_of_the_program_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    def faulty(questions: Any) -> Any:
        raise ZeroDivisionError("secret inside")

    answers = talk([LIBERO, {**LIBERO, "request_id": 1}], faulty)
    assert "secret" not in answers[0]
    assert answers[1]["code"] == "internal"
    assert "secret inside" in caplog.text


def test_another_rate_older_steps_and_late_answers_are_refused() -> None:
    own = {**LIBERO, "request_id": 1}
    answers = talk(
        [
            {**own, "control_rate_hz": 30.0},
            {**own, "control_rate_hz": 20.5},
            {**own, "step": 5},
            {**own, "step": 4},
            {"endpoint": "reset", "request_id": 2},
            {**own, "step": 0, "deadline_ms": 60_000},
            {**own, "deadline_ms": 5},
        ],
        Network(seconds=0.02),
    )
    assert answers[0]["code"] == "observation"
    assert "20 Hz" in answers[0]["wanted"]
    assert answers[1]["actions"].shape == (10, 7)
    assert answers[2]["step"] == 5
    assert answers[3]["code"] == "late"
    assert answers[4] == {"status": "reset successful", "request_id": 2}
    assert answers[5]["step"] == 0
    assert answers[6]["code"] == "late"


def test_another_session_forgets_the_one_before() -> None:
    async def run() -> list[Any]:
        async with server_of(Network()) as server:
            one, kept = session(), []
            for message in (
                {**LIBERO, "session_id": "a", "step": 7},
                {**LIBERO, "session_id": "b", "step": 0},
                {"endpoint": "reset", "session_id": "b"},
            ):
                await server.answer(one, packed(message))
                kept.append(None if one.kept is None else one.kept.step)
            return kept

    assert asyncio.run(run()) == [7, 0, None]


def test_any_client_may_have_its_chunks_continued() -> None:
    """openpi's own client sends what its map holds; the keys of real-time chunking are no part of the observation."""
    network = Network()
    guided = replace(CONTRACT, chunking="guided")
    with listening(network, contract=guided) as (address, _), connect(address, compression=None) as robot:
        robot.recv()
        answers = []
        for told in ({"step": 0}, {"step": 4, "delay": 2}, {"step": 5, "delay": 10, "continues": 4}, {"step": 6}):
            robot.send(packed({**LIBERO, **told}))
            answers.append(opened(robot.recv()))
    assert "delay" not in answers[0]
    assert answers[1]["delay"] == 2
    underway = network.batches[1][0].underway
    assert underway is not None
    np.testing.assert_array_equal(underway.actions, answers[0]["actions"][4:])
    assert "delay" not in network.batches[1][0].observation
    assert answers[2].endswith("code:   delay")  # nine are left; as text, which openpi's client raises
    assert "delay" not in answers[3]


def test_too_many_messages_in_a_second() -> None:
    counted = talk([{"request_id": 0, "endpoint": "ping"}] * 2, max_requests_per_s=0.01)
    assert [answer.get("code", answer.get("status")) for answer in counted] == ["ping successful", "rate"]


def test_a_message_that_is_not_read_is_answered_under_no_other_ones_id() -> None:
    """Whoever waits for the answer to its own id would pass over a refusal with the id of the message before."""
    long = list(range(MOST_ITEMS + 1))
    too_fast = talk([{"request_id": 1, "endpoint": "ping"}, {"request_id": 2, **LIBERO}], max_requests_per_s=0.01)
    unread = talk([{"request_id": 1, "endpoint": "ping"}, {"request_id": 2, "x": long}, {"request_id": 3, **LIBERO}])
    assert (too_fast[1]["code"], too_fast[1]["request_id"]) == ("rate", None)
    assert (unread[1]["code"], unread[1]["request_id"]) == ("malformed", None)
    assert unread[2]["request_id"] == 3
    starvla = talk([{"type": "ping", "request_id": "a"}, {"x": long}])
    assert starvla[1]["request_id"] == "default"  # as its own server calls whatever has no id


def test_a_text_that_cannot_be_repeated_costs_one_answer() -> None:
    """Half of a surrogate pair where an id should be: the refusal must not fail on it, nor end the connection."""
    half = {b"__ndarray__": True, b"data": b"\x00\xd8\0\0", b"dtype": "<U1", b"shape": []}
    messages = [{"request_id": half}, {"type": "ping", "request_id": half}, {"prompt": half, "request_id": 1}]
    answers = talk([*(msgpack.packb(one) for one in messages), LIBERO])
    assert [type(answer) for answer in answers] == [str, str, str, dict]


def test_pictures_are_unpacked_beside_the_event_loop() -> None:
    """A small message may hold much to decode, for which nobody else waits."""
    picture = {"__image__": True, "format": "png", "data": png(4, 5), "shape": [1, 2, 3]}

    async def run() -> tuple[Any, int]:
        async with server_of(Network()) as server:
            turns, done = 0, asyncio.Event()

            async def others() -> None:
                nonlocal turns
                while not done.is_set():
                    turns += 1
                    await asyncio.sleep(0)

            beside = asyncio.create_task(others())
            await asyncio.sleep(0)
            before = turns
            answer = await server.answer(session(), msgpack.packb({"observation/image": picture}))
            counted = turns - before
            done.set()
            await beside
            return answer, counted

    answer, turns = asyncio.run(run())
    assert "cannot be read" in answer  # so that nothing is waited for but the reading itself
    assert turns > 0


def test_examples_in_one_message_are_a_batch() -> None:
    example = {"image": [LIBERO["observation/image"], LIBERO["observation/wrist_image"]], "lang": "go"}
    example["state"] = np.zeros((1, 8), np.float32)
    network = Network()
    answers = talk([{"examples": [example] * 3}, {"examples": [example] * 9}], network, batch_wait_ms=50.0)
    assert answers[0]["data"]["actions"].shape == (3, 10, 7)
    assert answers[1]["error"]["code"] == "unsupported"
    assert sum(map(len, network.batches)) == 3


# --- over the wire ----------------------------------------------------------------------------------------------------


def test_metadata_greet_every_client_on_every_path() -> None:
    with listening() as (address, _):
        for path in ("", "/openpi/policy", "/v1/realtime/robot/openpi?x=1"):
            with connect(address + path, compression=None) as connection:
                first = msgpack.unpackb(connection.recv())
                assert first["contract"]["checkpoint"] == "c" * 64
                assert first["action_chunk_size"] == 3  # StarVLA's client must have it
                assert (first["type"], first["payload"]["observation_params"]["send_state"]) == ("hello", True)
                connection.send(packed(LIBERO))
                assert opened(connection.recv())["actions"].shape == (10, 7)


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(address.replace("ws", "http", 1) + path) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_and_metrics_answer_while_the_network_works() -> None:
    entered, leave = threading.Event(), threading.Event()
    network = Network()

    def slow(questions: Any) -> Any:
        entered.set()
        assert leave.wait(30)
        return network(questions)

    with listening(slow) as (address, _), connect(address, compression=None) as robot:
        robot.recv()
        robot.send(packed(LIBERO))
        assert entered.wait(30)
        assert get(address, "/healthz") == (200, "OK\n")
        assert json.loads(get(address, "/health")[1]) == {"status": "ok"}
        status, text = get(address, "/metrics")
        assert (status, "pi05_connected_clients 1" in text) == (200, True)
        with connect(address, compression=None) as other:  # another client is served meanwhile, too
            other.recv()
            other.send(packed({"endpoint": "ping", "request_id": 1}))
            assert opened(other.recv()) == {"status": "ping successful", "request_id": 1}
        assert get(address, "/else")[0] == 404
        leave.set()
        assert opened(robot.recv())["actions"].shape == (10, 7)
        assert 'pi05_answers_total{client="openpi"} 1' in get(address, "/metrics")[1]


def test_clients_of_a_slow_network_meet_again() -> None:
    """A run that takes longer than a client is remembered as likely must not make the next one a batch of one."""
    network = Network(seconds=1.2 * LIKELY_S)
    with listening(network, batch_wait_ms=1000.0) as (address, _), ExitStack() as opening:
        clients = [opening.enter_context(connect(address, proxy=None)) for _ in range(2)]
        for client in clients:
            client.recv()
        for _ in range(3):
            for client in clients:
                client.send(pack(LIBERO))
                time.sleep(0.1)
            for client in clients:
                client.recv(timeout=30)
    assert [len(batch) for batch in network.batches][-2:] == [2, 2]


def test_clients_that_meet_share_a_batch() -> None:
    network = Network(seconds=0.05)
    with listening(network, batch_wait_ms=500.0) as (address, _), ExitStack() as opening:
        robots = [opening.enter_context(connect(address, compression=None)) for _ in range(4)]
        for robot in robots:
            robot.recv()
        for _ in range(3):
            for robot in robots:
                robot.send(packed(LIBERO))
            firsts = {float(opened(robot.recv())["actions"][0, 0]) for robot in robots}
            assert len(firsts) == 4  # everyone got its own
    assert max(map(len, network.batches)) == 4
    assert len(network.batches) < 12


@pytest.mark.parametrize("way", ["orderly", "broken"])
def test_the_question_of_one_who_has_gone_is_not_asked(way: str) -> None:
    """Clients that reconnect ask again: each question would be computed twice, before those of the others."""
    entered, leave, network = threading.Event(), threading.Event(), Network()

    def slow(questions: Any) -> Any:
        entered.set()
        assert leave.wait(30)
        return network(questions)

    with listening(slow, max_batch=1) as (address, server), ExitStack() as opening:
        opening.callback(leave.set)
        first, second, third = (opening.enter_context(connect(address, compression=None)) for _ in range(3))
        for robot in (first, second, third):
            robot.recv()
        first.send(packed(LIBERO))
        assert entered.wait(10)
        for waiting, robot in ((1, second), (2, third)):
            robot.send(packed({**LIBERO, "prompt": f"robot {waiting}"}))
            until = time.monotonic() + 10
            while server.batcher.waiting < waiting and time.monotonic() < until:
                time.sleep(0.005)
        if way == "orderly":
            second.close()
        else:
            second.socket.shutdown(socket.SHUT_RDWR)
        until = time.monotonic() + 10
        while len(server.sessions) > 2 and time.monotonic() < until:
            time.sleep(0.005)
        assert len(server.sessions) == 2  # known at once, while the network still works for the first
        leave.set()
        for robot in (first, third):
            assert opened(robot.recv(timeout=10))["actions"].shape == (10, 7)
    assert [batch[0].observation["task"] for batch in network.batches] == ["do something", "robot 2"]
    assert server.metrics.refused == {}


def test_a_message_that_is_too_large_ends_its_own_connection_only() -> None:
    with ExitStack() as opening:
        address, _ = opening.enter_context(listening(max_message_mib=0.01))
        large, other = (opening.enter_context(connect(address, compression=None)) for _ in range(2))
        for one in (large, other):
            one.recv()
        large.send(b"\x00" * 20_000)
        with pytest.raises(ConnectionClosed) as error:
            large.recv()
        assert error.value.rcvd is not None
        assert error.value.rcvd.code == 1009
        other.send(packed(LIBERO))
        assert opened(other.recv())["actions"].shape == (10, 7)


def test_connections_that_break_in_the_middle_of_a_message_leave_nothing() -> None:
    head = b"\x82\xfe\xff\xff" + b"\x00" * 4
    with listening(max_clients=4) as (address, server):
        port = int(address.rpartition(":")[2])
        for i in range(30):
            with socket.create_connection(("127.0.0.1", port)) as raw:
                key = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                raw.sendall(
                    (key + "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n").encode()
                )
                assert raw.recv(100)
                raw.sendall(head[: 1 + i % len(head)])
                if i % 2:  # a reset instead of an orderly end
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            until = time.monotonic() + 10
            while server.sessions and time.monotonic() < until:
                time.sleep(0.005)
        assert not server.sessions
        with connect(address, compression=None) as robot:
            robot.recv()
            robot.send(packed(LIBERO))
            assert opened(robot.recv())["actions"].shape == (10, 7)


def test_the_most_clients_and_silent_ones() -> None:
    with ExitStack() as opening:
        address, _ = opening.enter_context(listening(max_clients=1, idle_timeout_s=1.5))
        robot = opening.enter_context(connect(address, compression=None))
        robot.recv()
        with pytest.raises(InvalidStatus, match="503"), connect(address, compression=None):
            pass
        with pytest.raises(ConnectionClosed, match="too long"):
            robot.recv(timeout=10)


def test_what_is_in_progress_is_answered_before_the_end() -> None:
    entered = threading.Event()

    def slow(questions: Any) -> Any:
        entered.set()
        time.sleep(0.3)
        return Network()(questions)

    with ExitStack() as opening:
        with listening(slow) as (address, _):
            robot = opening.enter_context(connect(address, compression=None))
            robot.recv()
            robot.send(packed(LIBERO))
            assert entered.wait(10)
        assert opened(robot.recv())["actions"].shape == (10, 7)
        with pytest.raises(ConnectionClosed):
            robot.recv(timeout=10)


def test_a_network_that_computes_for_longer_keeps_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in it and those in the queue are refused, and every connection is closed with its reason."""
    monkeypatch.setattr(server_module, "SHUTDOWN_S", 0.2)
    entered, leave, started = threading.Event(), threading.Event(), time.monotonic()

    def slow(questions: Any) -> Any:
        entered.set()
        assert leave.wait(60)
        return Network()(questions)

    with ExitStack() as opening:
        opening.callback(leave.set)
        with listening(slow, max_batch=1) as (address, server):
            robots = [opening.enter_context(connect(address, compression=None)) for _ in range(3)]
            for robot in robots:
                robot.recv()
            for robot in robots[:2]:
                robot.send(packed({**LIBERO, "request_id": 1}))
            assert entered.wait(10)
        assert time.monotonic() - started < 30  # `listening` waits for the end
        assert server.batcher.computing
        for robot in robots[:2]:
            assert opened(robot.recv(timeout=10))["code"] == "stopping"
        for robot in robots:
            with pytest.raises(ConnectionClosed, match="the server is stopping"):
                robot.recv(timeout=10)


def test_the_contract_is_what_a_client_reads() -> None:
    from pi05.serve.protocol import Contract

    assert Contract.from_metadata(unpack(pack(CONTRACT.to_metadata()))[0]) == CONTRACT
    assert observation()["task"] == "pick up the bowl"
