"""Attack `pi05 serve` with hostile frames and broken connections, and watch that it serves its clients meanwhile.

    python benchmarks/serve_soak.py                               100,000 frames, 1,000 disconnects
    python benchmarks/serve_soak.py --frames 5000 --disconnects 50 --rounds 5

Frames are valid messages of every dialect with bytes exchanged, cut, doubled, with lengths, types and values replaced;
and inventions: bombs, pickles, deep nests, huge promises, texts, oversized frames. Connections end in the middle of a
message, half of them by a reset. Several attackers are connected at once. The server is a process of its own with every
check that it has; only the arithmetic of the network is left out, so that what is measured is the server. A robot asks
all the while, and each of its answers is checked. The result goes to benchmarks/results/ after every round: processor
time, and the server's memory with its slope over the second half of the rounds, when every part has been used.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import random
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import torch
from PIL import Image
from serve_policies import make_policy, observation
from serve_sides import serve_ours
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from pi05.machine import machine_info
from pi05.policy import Prepared
from pi05.serve.arrays import MSGPACK_NUMPY, OPENPI, VLA_EVAL, pack, unpack
from pi05.serve.config import ServeConfig
from pi05.serve.engine import Engine

MESSAGE_MIB = 1.0
AT_ONCE = 20
"""Frames that are sent before their answers are read."""
ATTACKERS = 4
ROBOT_PAUSE_S = 0.05
REPOSITORY = Path(__file__).resolve().parents[1]
EXPLOITED = Path("/tmp/pi05-serve-was-exploited")
"""A folder that a pickle of the attack would make."""


def valid_messages() -> list[bytes]:
    """Return one message of every kind in every dialect, small enough to be sent a hundred thousand times."""
    seen = observation(side=8)
    image, wrist, state = seen["observation/image"], seen["observation/wrist_image"], seen["observation/state"]
    payload = {"images": {"agentview": image, "wrist": wrist}, "states": state, "task_description": "go"}
    example = {"image": [image, wrist], "lang": "go", "state": state[None]}
    flat = [
        seen,
        {**seen, "request_id": 7, "deadline_ms": 5000, "step": 3, "seed": 1, "control_rate_hz": 20.0},
        {**seen, "endpoint": "infer", "session_id": "a"},
        {"endpoint": "reset"},
        {"examples": [example]},
        {"type": "infer", "request_id": "r", "payload": {"examples": [example]}},
        {"type": "ping", "request_id": "r"},
        *({"type": kind, "payload": payload, "seq": 1, "timestamp": 0.0} for kind in ("hello", "observation")),
        {"type": "episode_start", "payload": {"task": {}}, "seq": 2, "timestamp": 0.0},
    ]
    packed = [pack(message, dialect) for message in flat for dialect in (OPENPI, VLA_EVAL, MSGPACK_NUMPY)]
    files = {form: {"agentview": _file(image, form), "wrist": _file(wrist, form)} for form in ("PNG", "JPEG")}
    shown = ({**payload, "images": images} for images in files.values())
    return packed + [
        pack({"type": "observation", "payload": each, "seq": 1, "timestamp": 0.0}, VLA_EVAL) for each in shown
    ]


def _file(picture: np.ndarray, form: str) -> dict[str, Any]:
    """Return a picture as vla-eval sends it."""
    held = io.BytesIO()
    Image.fromarray(picture).save(held, form)
    return {"__image__": True, "format": form.lower(), "data": held.getvalue(), "shape": list(picture.shape)}


def _promised(rng: random.Random) -> bytes:
    """Return a PNG that says it is of some size and kind, whatever it holds."""
    sides = [rng.choice((1, 4, 5000, 9500, 20_000, (1 << 31) - 1)) for _ in range(2)]
    header = struct.pack(">IIBBBBB", *sides, rng.choice((1, 8, 16, 3)), rng.choice((0, 2, 3, 6, 7)), 0, 0, 0)
    more = (rng.choice((b"iCCP", b"zTXt", b"tRNS", b"gAMA", b"acTL", b"fcTL", b"eXIf", b"PLTE")), rng.randbytes(5))
    parts = ((b"IHDR", header), more, (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(b)) + a + b + struct.pack(">I", zlib.crc32(a + b)) for a, b in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _black() -> bytes:
    """Return a file of 600 bytes that holds a picture of 12 MiB."""
    held = io.BytesIO()
    Image.new("1", (2040, 2040)).save(held, "PNG")
    return held.getvalue()


BLACK = _black()


class _Bomb:
    def __reduce__(self) -> Any:
        return (os.mkdir, (str(EXPLOITED),))


def inventions(rng: random.Random) -> bytes | str:
    """Return a frame that no client sends."""
    marker = {"nd": True, "type": "|O", "kind": "O", "shape": [1], "data": pickle.dumps(_Bomb())}
    shape = [rng.choice([-1, 0, 1 << 31, 1 << 62, 3.5]) for _ in range(rng.randrange(1, 12))]
    array = {
        "__ndarray__": True,
        "data": b"x" * rng.randrange(9),
        "dtype": rng.choice(["|u1", "|O", "<c8", "", "f" * 99]),
    }
    png = {"__image__": True, "format": "png", "data": _promised(rng), "shape": [20_000, 20_000, 3]}
    count = rng.choice((0, 0, 0, 0, 0, 0, 1, 40))  # forty take the server a tenth of a second until they are refused
    many = {str(i): {"__image__": True, "format": "png", "data": BLACK} for i in range(count)}
    text = {"__ndarray__": True, "dtype": "<U2", "data": rng.randbytes(8), "shape": rng.choice(([], [1]))}
    half = {"__ndarray__": True, "dtype": "<U1", "data": b"\x00\xd8\0\0", "shape": []}
    return rng.choice(
        [
            rng.randbytes(rng.randrange(200)),
            "text " * rng.randrange(100),
            b"\x91" * rng.randrange(1, 5000),
            b"\xdd\xff\xff\xff\xff" + b"\x80" * 1000,
            b"\xdc\xff\xff" + b"\x80" * 65535,
            b"\xc6\xff\xff\xff\xff",
            msgpack.packb({"observation/image": marker}),
            msgpack.packb({"observation/image": {key.encode(): value for key, value in marker.items()}}),
            msgpack.packb({"x": {**array, "shape": shape}}, default=str),
            msgpack.packb({"type": "observation", "payload": {"images": {"a": png}}, "seq": 1, "timestamp": 0.0}),
            msgpack.packb({"type": "observation", "payload": {"images": many}, "seq": 1, "timestamp": 0.0}),
            msgpack.packb({"request_id": rng.choice((text, half)), "prompt": text}),
            msgpack.packb({"x": {"__npgeneric__": True, "data": rng.choice((1e300, -1.0, 7)), "dtype": "<f4"}}),
            msgpack.packb({"request_id": "x" * 100_000}),
            msgpack.packb({"request_id": [[[1]] * 50] * 50}),
            msgpack.packb({"examples": [{}] * 5000}),
            msgpack.packb({"prompt": "word " * 5000, "state": [float("nan")] * 8}),
            msgpack.packb({"x": msgpack.ExtType(5, b"abc")}),
            msgpack.packb({"type": [1], "payload": None, "seq": {}, "timestamp": "now"}),
        ]
    )


def mutate(frame: bytes, rng: random.Random) -> bytes:
    """Return a valid frame after a few changes."""
    data = bytearray(frame)
    for _ in range(rng.randrange(1, 6)):
        place, way = rng.randrange(len(data)) if data else 0, rng.randrange(6)
        if way == 0 and data:
            data[place] = rng.randrange(256)
        elif way == 1:
            del data[place:]
        elif way == 2:
            del data[place : place + rng.randrange(1, 40)]
        elif way == 3:
            data[place:place] = rng.randbytes(rng.randrange(1, 20))
        elif way == 4:
            data[place:place] = data[place : place + rng.randrange(1, 60)]
        elif data:  # headers and lengths are where parsers break
            data[place] = rng.choice((0x80, 0x8F, 0x90, 0xC1, 0xC4, 0xC6, 0xC7, 0xCB, 0xDB, 0xDD, 0xDF, 0xFF))
    return bytes(data)


def hostile_frames(count: int, seed: int = 0) -> Iterator[bytes | str]:
    """Yield frames of all kinds; one of two hundred is too large to be taken."""
    rng, valid = random.Random(seed), valid_messages()
    for i in range(count):
        if i % 200 == 199:
            yield b"\x00" * int((MESSAGE_MIB + 0.1) * (1 << 20))
        elif i % 4 == 3:
            yield inventions(rng)
        else:
            yield mutate(rng.choice(valid), rng)


def attack(port: int, frames: Sequence[bytes | str], counts: Counter[str]) -> None:
    """Send frames over as few connections as the server allows, and count what comes back."""
    left = list(frames)
    while left:
        with suppress(ConnectionClosed, TimeoutError, OSError), ExitStack() as opening:
            attacker = connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None, proxy=None)
            connection = opening.enter_context(attacker)
            connection.recv()
            counts["connections"] += 1
            while left:
                batch = [left.pop() for _ in range(min(AT_ONCE, len(left)))]
                counts["sent"] += len(batch)
                for frame in batch:
                    connection.send(frame)
                connection.send(pack({"endpoint": "ping", "request_id": "mark"}))
                while not is_mark(answer := connection.recv(timeout=60)):
                    counts["answers" if isinstance(answer, bytes) else "error texts"] += 1


def is_mark(answer: bytes | str) -> bool:
    """Tell whether this is the answer to the ping behind a batch."""
    return isinstance(answer, bytes) and b"mark" in answer and b"ping successful" in answer


def break_off(port: int, count: int, seed: int = 1) -> None:
    """Connect, send part of a message, and go: in order, or with a reset."""
    rng = random.Random(seed)
    handshake = (
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    message = struct.pack(">BBQ", 0x82, 0xFF, 300_000) + b"\x00" * 4 + rng.randbytes(100_000)
    for i in range(count):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
            whole = handshake if i % 10 else handshake[: rng.randrange(len(handshake))]
            raw.sendall(whole)
            if i % 10:
                with suppress(OSError):
                    raw.recv(4096)
            with suppress(OSError):
                raw.sendall(message[: rng.randrange(1, len(message))])
            if i % 2:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def be_a_robot(port: int, stop: threading.Event, latencies: list[float]) -> None:
    """Ask as a robot does, and check every answer."""
    frame = pack(observation(side=64))
    with connect(f"ws://127.0.0.1:{port}", compression=None, proxy=None, ping_interval=None) as connection:
        connection.recv()
        while not stop.wait(ROBOT_PAUSE_S):
            started = time.perf_counter()
            connection.send(frame)
            answer = connection.recv(timeout=60)
            latencies.append(time.perf_counter() - started)
            if isinstance(answer, str) or unpack(answer)[0]["actions"].shape != (10, 7):
                raise RuntimeError(str(answer))


def resident_mib(pid: int) -> float:
    """Return the memory that a process has, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def attack_at_once(port: int, frames: Sequence[bytes | str], counts: Counter[str]) -> None:
    """Attack over several connections; all of them count together."""
    shares = [frames[i::ATTACKERS] for i in range(ATTACKERS)]
    own = [Counter[str]() for _ in shares]
    with ThreadPoolExecutor(ATTACKERS) as pool:
        for done in [pool.submit(attack, port, *share) for share in zip(shares, own, strict=True)]:
            done.result()
    for one in own:
        counts.update(one)


def soak(
    port: int,
    pid: int,
    frames: int,
    disconnects: int,
    rounds: int,
    say: Callable[[str], None],
    keep: Callable[[dict[str, Any]], None] = lambda found: None,
) -> dict[str, Any]:
    """Attack a server and return what became of it; `keep` gets it after every round.

    Raises RuntimeError where a robot was not served.
    """
    stop, latencies, counts = threading.Event(), list[float](), Counter[str]()
    memory, started, cpu = [resident_mib(pid)], time.monotonic(), cpu_seconds(pid)
    found: dict[str, Any] = {}
    with ThreadPoolExecutor(1) as pool:
        robot = pool.submit(be_a_robot, port, stop, latencies)
        try:
            for i in range(rounds):
                attack_at_once(port, list(hostile_frames(frames // rounds, seed=i)), counts)
                break_off(port, disconnects // rounds, seed=i)
                memory.append(resident_mib(pid))
                found = {
                    "frames": counts["sent"],
                    "disconnects": disconnects // rounds * (i + 1),
                    "counts": dict(counts),
                    "seconds": round(time.monotonic() - started, 1),
                    "cpu_seconds": {"server": round(cpu_seconds(pid) - cpu, 1), "attackers": time.process_time()},
                    "robot_answers": len(latencies),
                    "robot_ms": percentiles(latencies),
                    "memory_mib": [round(value, 1) for value in memory],
                    "kib_per_1000_frames": slope(memory, frames // rounds),
                }
                keep(found)
                say(f"round {i + 1} of {rounds}: {counts['sent']:,} frames, {memory[-1]:.1f} MiB, {found['robot_ms']}")
                if robot.done():
                    break
        finally:
            stop.set()
        try:
            robot.result()
        except Exception as error:
            raise RuntimeError("the robot was not served") from error
    return found


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return the middle and the slow tail in milliseconds; nothing of nothing."""
    return {f"p{q}": round(float(np.percentile(seconds, q)) * 1000, 1) for q in (50, 99)} if len(seconds) else {}


def slope(memory: Sequence[float], frames_per_round: int) -> float | None:
    """Return by how many KiB the memory grows with 1,000 frames over the second half of the rounds, by a line."""
    late = memory[len(memory) // 2 :]
    if len(late) < 3:
        return None
    per_round = float(np.polyfit(range(len(late)), late, 1)[0])
    return round(1024 * per_round * 1000 / max(frames_per_round, 1), 2)


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class WithoutArithmetic(Engine):
    """Every check of the policy, and a chunk of zeros."""

    def _chunks(self, questions: Any, prepared: Sequence[Prepared]) -> list[Any]:
        return [torch.zeros(10, 7).numpy() for _ in prepared]


def serve() -> None:
    """Be the server, until killed."""
    engine = WithoutArithmetic(make_policy("tiny"))
    serve_ours(engine, ServeConfig(max_requests_per_s=1e6, max_message_mib=MESSAGE_MIB))


def main() -> None:
    """Parse the arguments, start a server, attack it, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--disconnects", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, help="by default benchmarks/results/serve_soak_DATE.json")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    target = options.out or REPOSITORY / "benchmarks" / "results" / f"serve_soak_{date.today().isoformat()}.json"
    head = {"date": date.today().isoformat(), "machine": machine_info()}
    if EXPLOITED.exists():
        EXPLOITED.rmdir()

    def keep(found: dict[str, Any], **more: Any) -> None:
        target.write_text(json.dumps({**head, **found, **more}, indent=1) + "\n", encoding="utf-8")

    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        say = partial(print, flush=True)
        found = soak(port, process.pid, options.frames, options.disconnects, options.rounds, say, keep)
        alive = process.poll() is None
    finally:
        process.kill()
        process.wait()
    exploited = EXPLOITED.exists()
    keep(found, alive=alive, exploited=exploited)
    print(f"{found['seconds']} s, {found['cpu_seconds']} CPU s, {found['kib_per_1000_frames']} KiB per 1,000 frames")
    if not alive or exploited:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
