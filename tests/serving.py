"""A server without a network behind it: a contract, observations that fit it, answers that tell what was asked; and
conversations of other programs' clients, as they were recorded."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pi05.errors import DataError, UserError
from pi05.serve.arrays import OPENPI, ArrayDialect, pack, unpack
from pi05.serve.batching import AnswerAll, Answered, Question
from pi05.serve.config import ServeConfig
from pi05.serve.listener import bind
from pi05.serve.protocol import Camera, Contract, Numbers
from pi05.serve.server import PolicyServer
from pi05.serve.session import Allowance, Session

PROTOCOL = Path(__file__).parent / "golden" / "protocol"
SCENE, WRIST, STATE = "observation.images.image", "observation.images.image2", "observation.state"
CONTRACT = Contract(
    cameras=(Camera(name=SCENE, slot="scene", size=(4, 5)), Camera(name=WRIST, slot="left_wrist")),
    dropped_cameras=("observation.images.depthless",),
    image_size=48,
    state=Numbers(dim=8, low=(-1.0,) * 8, high=(1.0,) * 8),
    action=Numbers(dim=7, names=tuple("xyzabcg")),
    control_rate_hz=20.0,
    horizon=10,
    n_action_steps=3,
    checkpoint="c" * 64,
    step=7,
    server="pi05 test",
)


def observation(**changes: Any) -> dict[str, Any]:
    """Return an observation under LeRobot's names; a value of None takes a key out."""
    whole = {
        SCENE: np.full((4, 5, 3), 200, np.uint8),
        WRIST: np.full((4, 5, 3), 100, np.uint8),
        STATE: np.linspace(-0.5, 0.5, 8, dtype=np.float32),
        "task": "pick up the bowl",
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


class Network:
    """Answers with a chunk that counts: action k of the n-th question is n + k / 100. Batches are remembered."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[list[Question]] = []
        self.count = 0

    def __call__(self, questions: Sequence[Question]) -> list[Answered | UserError]:
        time.sleep(self.seconds)
        self.batches.append(list(questions))
        return [self._answer(question, len(questions)) for question in questions]

    def _answer(self, question: Question, batch: int) -> Answered | UserError:
        self.count += 1
        missing = [name for name in (SCENE, WRIST, STATE, "task") if name not in question.observation]
        if missing:
            return DataError(f"{missing[0]} is missing", remedy="send it")
        chunk = np.float32(self.count) + np.arange(10, dtype=np.float32)[:, None] / 100 + np.zeros((1, 7), np.float32)
        return Answered(actions=chunk, infer_ms=1000 * self.seconds, batch=batch)


def config(**changes: Any) -> ServeConfig:
    return ServeConfig(**{"batch_wait_ms": 0.0, "max_requests_per_s": 1e6, **changes})


def session(per_second: float = 1e6) -> Session:
    return Session(allowance=Allowance(per_second))


@asynccontextmanager
async def server_of(answer_all: AnswerAll, **changes: Any) -> AsyncIterator[PolicyServer]:
    """Start all but the socket."""
    server = PolicyServer(config(**changes), CONTRACT, answer_all)
    server.batcher.start()
    try:
        yield server
    finally:
        await server.batcher.close(1.0)
        server.close()


def talk(messages: Sequence[Any], answer_all: AnswerAll | None = None, **changes: Any) -> list[Any]:
    """Return the answers of one connection to some messages, unpacked; a map is packed as openpi does."""

    async def run() -> list[Any]:
        async with server_of(answer_all or Network(), **changes) as server:
            one = session(changes.get("max_requests_per_s", 1e6))
            return [opened(await server.answer(one, packed(message))) for message in messages]

    return asyncio.run(run())


def packed(message: Any, dialect: ArrayDialect = OPENPI) -> bytes | str:
    return pack(message, dialect) if isinstance(message, dict) else message


def opened(answer: bytes | str | None) -> Any:
    return unpack(answer)[0] if isinstance(answer, bytes) else answer


@contextmanager
def listening(
    answer_all: AnswerAll | None = None, *, key: str | None = None, contract: Contract = CONTRACT, **changes: Any
) -> Iterator[tuple[str, PolicyServer]]:
    """Serve on a free port in a thread; yield the address and the server."""
    server = PolicyServer(config(**changes), contract, answer_all or Network(), key)
    listener = bind("127.0.0.1", changes.get("port", 0))
    ready = threading.Event()
    stopping: list[Callable[[], Any]] = []

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stopping.append(lambda: loop.call_soon_threadsafe(stop.set))
        await server.run(listener, stop, ready.set)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert ready.wait(30)
        scheme = "ws" if server.config.tls_cert is None else "wss"
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}", server
    finally:
        stopping[0]()
        thread.join(30)
        listener.close()
    assert not thread.is_alive()


def png(width: int, height: int, *more: tuple[bytes, bytes], colour: int = 2) -> bytes:
    """Return a small file that says it is a picture of this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(b)) + a + b + struct.pack(">I", zlib.crc32(a + b)) for a, b in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def payloads(frames: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield opcode and unmasked payload of each websocket frame in some bytes."""
    while frames:
        length, start = frames[1] & 127, 2
        if length == 126:
            length, start = struct.unpack(">H", frames[2:4])[0], 4
        mask = frames[start : start + 4] if frames[1] & 128 else b""
        start += len(mask)
        body = frames[start : start + length]
        yield frames[0] & 15, bytes(byte ^ mask[i % 4] for i, byte in enumerate(body)) if mask else body
        frames = frames[start + length :]


def recorded(name: str) -> list[tuple[str, int, bytes]]:
    """Return the messages of a recording: who to whom, opcode, payload."""
    found = []
    for line in map(json.loads, (PROTOCOL / f"{name}.jsonl").read_text().splitlines()):
        frame = bytes.fromhex(line.get("hex", ""))
        if not frame or line.get("op") in ("http", "http-body", "close"):
            continue
        if "op" in line:
            found.append((line["dir"], {"text": 1, "binary": 2}[line["op"]], frame))
            continue
        if frame.startswith((b"GET ", b"HTTP/")):
            frame = frame.partition(b"\r\n\r\n")[2] if b" 101 " in frame[:20] else b""
        found += [(line["dir"], opcode, body) for opcode, body in payloads(frame) if opcode in (1, 2)]
    return found
