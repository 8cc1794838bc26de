"""StarVLA's and vla-eval's clients against a live server with an untrained policy: their frames in, actions out.

The frames are those that the clients have sent (tests/golden/protocol); answers are read as the clients read them, with
their own markers, and are the policy's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import fakes
import msgpack
import numpy as np
import pytest
import torch
from fake_policies import make_libero_policy
from serving import listening, recorded
from websockets.sync.client import ClientConnection, connect

from pi05.policy import Policy
from pi05.serve.arrays import unpack
from pi05.serve.engine import Engine
from pi05.types import STATE

SCENE, WRIST = "observation.images.image", "observation.images.image2"
SEED, NUM_STEPS = 7, 2


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    tokenizer = fakes.write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")
    made = make_libero_policy(tokenizer)
    return Policy(made.model, made.processor, n_action_steps=3)


@pytest.fixture
def robot(policy: Policy) -> Iterator[ClientConnection]:
    """A connection as these clients make it: no compression, no limit, no pings."""
    engine = Engine(policy, num_steps=NUM_STEPS)
    with (
        listening(engine.answer_all, contract=engine.contract, max_batch=1) as (address, _),
        connect(address, compression=None, max_size=None, ping_interval=None) as connection,
    ):
        yield connection


def ask(robot: ClientConnection, frame: bytes) -> dict[str, Any]:
    """Send a frame, with the noise that the policy will draw known; return the answer's map."""
    torch.manual_seed(SEED)
    robot.send(frame)
    received = robot.recv(timeout=60)
    assert isinstance(received, bytes), received  # both clients raise for a text frame
    return dict(msgpack.unpackb(received, raw=False))


def array(found: Any, key: type) -> np.ndarray:
    """Read an array as the client does: openpi's and StarVLA's look for keys of bytes, vla-eval's for text."""
    names = ("__ndarray__", "data", "dtype", "shape")
    assert set(found) == {name.encode() if key is bytes else name for name in names}
    data, dtype, shape = (found[name.encode() if key is bytes else name] for name in names[1:])
    return np.frombuffer(data, dtype).reshape(shape)


def expected(policy: Policy, scene: np.ndarray, wrist: np.ndarray, state: Any, task: str) -> np.ndarray:
    """Return the policy's own chunk for an observation, from the same noise."""
    torch.manual_seed(SEED)
    seen = {SCENE: scene, WRIST: wrist, STATE: np.asarray(state, np.float32).reshape(-1), "task": task}
    chunk: np.ndarray = policy.infer(seen, num_steps=NUM_STEPS)["actions"]
    return chunk


def sent_by(name: str) -> list[bytes]:
    return [body for way, opcode, body in recorded(name) if way == "c1->s" and opcode == 2]


def test_starvlas_client_is_answered(robot: ClientConnection, policy: Policy) -> None:
    greeting = msgpack.unpackb(robot.recv(timeout=60), raw=False)
    assert greeting["action_chunk_size"] == 3  # the one key that its client cannot do without
    flat, enveloped, unknown_key, ping = sent_by("starvla")[:4]
    for frame, label in ((flat, "default"), (enveloped, "r1")):
        frame = frame.replace(b"\xa6franka", b"\xa4pi05")  # the statistics of this policy
        (example,) = (message := unpack(frame)[0]).get("examples") or message["payload"]["examples"]
        answer = ask(robot, frame)
        assert (answer["status"], answer["type"], answer["request_id"]) == ("ok", "inference_result", label)
        actions = array(answer["data"]["actions"], bytes)
        want = expected(policy, *example["image"], example["state"], example["lang"])
        np.testing.assert_array_equal(actions, want[None])
        assert actions.shape[1] >= greeting["action_chunk_size"]
    refused = ask(robot, unknown_key)
    assert (refused["status"], refused["ok"], refused["error"]["code"]) == ("error", False, "unsupported")
    assert ask(robot, ping)["request_id"] == "r2"  # and the connection goes on


def test_starvlas_libero_client_sends_no_state_and_no_key(policy: Policy) -> None:
    """As its LIBERO example asks: two pictures, `unnorm_key` None; a policy without state in its prompt answers."""
    blind = Policy(policy.model, replace(policy.processor, prompt_format="none"), n_action_steps=3)
    message = unpack(sent_by("starvla")[0])[0]
    (example,) = message["examples"]
    frame = packed_by_starvla(
        message | {"examples": [{key: example[key] for key in ("image", "lang")}], "unnorm_key": None}
    )
    for own, status in ((blind, "ok"), (policy, "error")):
        engine = Engine(own, num_steps=NUM_STEPS)
        with (
            listening(engine.answer_all, contract=engine.contract, max_batch=1) as (address, _),
            connect(address, compression=None, ping_interval=None) as robot,
        ):
            robot.recv(timeout=60)
            answer = ask(robot, frame)
        assert answer["status"] == status
        if own is blind:
            want = expected(own, *example["image"], np.zeros(8), example["lang"])
            np.testing.assert_array_equal(array(answer["data"]["actions"], bytes)[0], want)
        else:
            assert "no state" in answer["error"]["message"]


def packed_by_starvla(value: Any) -> bytes:
    """Pack as its client does: marker maps with keys of bytes."""

    def plain(item: Any) -> Any:
        fields = {b"__ndarray__": True, b"data": item.tobytes(), b"dtype": item.dtype.str, b"shape": item.shape}
        return fields if isinstance(item, np.ndarray) else item

    return bytes(msgpack.packb(value, default=plain, use_bin_type=True))


def test_vla_evals_client_is_driven_through_two_episodes(robot: ClientConnection, policy: Policy) -> None:
    """Its client takes the first frame for the answer to its hello, and one action for each observation."""
    frames = sent_by("vla_eval")
    messages = [unpack(frame)[0] for frame in frames]
    greeting = msgpack.unpackb(robot.recv(timeout=60), raw=False)
    assert (greeting["type"], greeting["payload"]["observation_params"]["send_state"]) == ("hello", True)
    chunk, given = np.zeros((0, 7), np.float32), 0
    answered = []
    for frame, message in zip(frames, messages, strict=True):
        if message["type"] != "observation":
            robot.send(frame)  # never answered: the next frame that comes is the next action
            given = len(chunk) if message["type"] == "episode_start" else given
            continue
        payload = message["payload"]
        answer = ask(robot, frame)
        assert answer["seq"] == message["seq"]
        answered.append(answer["type"])
        if answer["type"] == "error":
            assert "no state" in answer["payload"]["error"]  # the recording's own fault
            continue
        if given >= min(3, len(chunk)):
            images, state = payload["images"], payload["states"]
            chunk, given = expected(policy, images["agentview"], images["wrist"], state, payload["task_description"]), 0
        np.testing.assert_array_equal(array(answer["payload"]["actions"], str), chunk[given])
        given += 1
    assert answered == ["action", "action", "action", "error", "action", "action"]
