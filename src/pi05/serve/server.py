"""The server: connections in, answers out, on websockets' asyncio server; the network runs in a thread of its own.

`websockets` is openpi's own stack, and the one under uvicorn: it is maintained, speaks TLS, limits messages while they
arrive, and answers plain HTTP before the handshake, which is all that `/healthz` and `/metrics` need. Leaves out what
messages mean (`dialects.py`, `observations.py`), who may connect (`door.py`) and the queue (`batching.py`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from pi05.errors import Refused, UserError
from pi05.serve import dialects
from pi05.serve.arrays import pack, unpack
from pi05.serve.batching import AnswerAll, Answered, Batcher, Question, failed
from pi05.serve.bounds import malformed
from pi05.serve.config import ServeConfig
from pi05.serve.dialects import Address, Ask, Reply
from pi05.serve.door import Door, encryption
from pi05.serve.listener import leave_to_successor
from pi05.serve.metrics import Metrics
from pi05.serve.observations import translate
from pi05.serve.protocol import Contract, require_rate
from pi05.serve.session import Allowance, Session

LARGE, PICTURE = 1 << 16, b"__image__"
"""Messages of so many bytes, and with compressed pictures, are unpacked beside the event loop."""
SLOW_READER_S = 30.0
SHUTDOWN_S = 5.0
LIKELY_S = 1.0
"""A client that asked, or was answered, within this time is expected to ask again."""

logger = logging.getLogger(__name__)


class PolicyServer:
    """Answers robots, until it is told to stop."""

    def __init__(self, config: ServeConfig, contract: Contract, answer_all: AnswerAll, key: str | None = None) -> None:
        self.config, self.contract = config, contract
        self.metrics = Metrics()
        self.sessions: set[Session] = set()
        self._answering = 0
        self.batcher = Batcher(
            answer_all,
            max_batch=config.max_batch,
            wait_s=config.batch_wait_ms / 1000,
            max_waiting=max(2 * config.max_batch, 2 * config.max_clients),
            expected=self._expected,
            measure=self.metrics.batch,
        )
        self.door = Door(config, key, self.metrics, lambda: self.batcher.waiting)
        self._first_frame = pack(contract.to_metadata())
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="pi05-reader")

    async def run(self, listener: socket.socket, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Serve on a bound socket until `stop` is set; then answer what is in progress, and close every connection."""
        self.batcher.start()
        leave_to_successor(listener)
        async with serve(
            self._talk,
            sock=listener,
            ssl=encryption(self.config),
            process_request=self.door.answer,
            compression=None,  # no client uses it, and a small frame could unpack to a large one
            max_size=self.config.max_message_bytes,
            max_queue=4,
            ping_interval=None,  # clients that simulate while they wait do not answer; TCP finds the dead ones
            close_timeout=2,
            server_header=None,
            logger=_QUIET,
        ) as server:
            self.door.ready = True
            ready()
            await stop.wait()
            self.door.ready = False
            server.close(close_connections=False)
            await self.batcher.close(SHUTDOWN_S)
            until = time.monotonic() + SHUTDOWN_S
            while self._answering and time.monotonic() < until:  # the last answers go out first
                await asyncio.sleep(0.01)
            farewells = [one.close(1001, "the server is stopping") for one in list(server.connections)]
            await asyncio.gather(*farewells)
        self.close()

    def close(self) -> None:
        """Give back the thread that unpacks large messages."""
        self._readers.shutdown(wait=False)

    def _expected(self) -> int:
        now = time.monotonic()
        return sum(now - session.asked < LIKELY_S for session in self.sessions)

    async def _talk(self, connection: ServerConnection) -> None:
        """Serve one connection, whatever it sends."""
        session = Session(allowance=Allowance(self.config.max_requests_per_s))
        self.sessions.add(session)
        self.metrics.connections += 1
        self.metrics.connected += 1
        _notice_death(connection)
        gone = asyncio.create_task(connection.wait_closed())
        try:
            await connection.send(self._first_frame)
            while True:
                async with asyncio.timeout(self.config.idle_timeout_s):
                    frame = await connection.recv()
                self._answering += 1
                try:
                    answer = await self._answer_unless(gone, session, frame)
                    if answer is not None:
                        async with asyncio.timeout(SLOW_READER_S):
                            await connection.send(answer)
                finally:
                    self._answering -= 1
        except ConnectionClosed:
            pass  # how every conversation ends
        except TimeoutError:
            await connection.close(1000, "nothing was heard, or nothing was read, for too long")
        finally:
            gone.cancel()
            self.sessions.discard(session)
            self.metrics.connected -= 1

    async def _answer_unless(self, gone: asyncio.Task[None], session: Session, frame: bytes | str) -> Any:
        """Return the answer, or None once its asker has gone: nobody's question keeps the network from others'."""
        answering = asyncio.create_task(self.answer(session, frame))
        try:
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            return answering.result() if answering.done() else None
        finally:
            answering.cancel()

    async def answer(self, session: Session, frame: bytes | str) -> bytes | str | None:
        """Return the answer to one message; None where its sender expects none. Never raises for what was sent."""
        arrived, session.address = time.monotonic(), session.address.of_unread()
        try:
            session.require_allowed()
            ask = await self._read(session, frame)
            reply = await self._do(session, session.address, ask, arrived)
        except Refused as error:
            return self._refuse(session, error)
        except UserError as error:
            return self._refuse(session, _as_refusal(error))
        except Exception:  # a fault of this program costs one answer, not the robots of everybody else
            logger.exception("a message could not be answered")
            return self._refuse(session, failed())
        session.last_total_ms = 1000 * (time.monotonic() - arrived)
        return reply if session.address.answered else None

    async def _read(self, session: Session, frame: bytes | str) -> Ask:
        if isinstance(frame, str):
            raise malformed("a text frame")
        if len(frame) < LARGE and PICTURE not in frame:
            message, arrays = unpack(frame)
        else:
            message, arrays = await asyncio.get_running_loop().run_in_executor(self._readers, unpack, frame)
        session.address = dialects.address_of(message, arrays, session.address)
        ask = dialects.interpret(message, session.address)
        session.begin(ask)
        return ask

    async def _do(self, session: Session, address: Address, ask: Ask, arrived: float) -> bytes | None:
        if ask.what == "nothing":
            return None
        if ask.what != "infer":
            return dialects.pack_done(address, ask.what)
        session.asked = arrived
        kept = session.next_kept_action(self.contract) if address.family == "vla-eval" else None
        if kept is not None:
            return dialects.pack_reply(address, Reply(chunks=(), infer_ms=0.0, server_timing={}, one_action=kept))
        answers = await self._infer(session, ask, arrived)
        session.asked = time.monotonic()  # the next question is to be expected now, however long this answer took
        self.metrics.warnings += sum(len(answer.warnings) for answer in answers)
        self.metrics.answered[address.family] += 1
        self.metrics.latency.add(time.monotonic() - arrived)
        self.metrics.continued += ask.delay is not None
        session.keep(answers[0].actions, ask)
        timing = {"infer_ms": 1000 * (time.monotonic() - arrived)}
        if session.last_total_ms is not None:
            timing["prev_total_ms"] = session.last_total_ms
        reply = Reply(
            chunks=[answer.actions for answer in answers],
            infer_ms=max(answer.infer_ms for answer in answers),
            server_timing=timing,
            warnings=tuple(text for answer in answers for text in answer.warnings),
            step=ask.step,
            delay=ask.delay,
            batch=max(answer.batch for answer in answers),
            one_action=session.next_kept_action(self.contract) if address.family == "vla-eval" else None,
        )
        return dialects.pack_reply(address, reply)

    async def _infer(self, session: Session, ask: Ask, arrived: float) -> list[Answered]:
        underway = session.underway(ask, self.contract)
        if ask.num_steps is not None and ask.num_steps != self.contract.num_inference_steps:
            raise Refused(
                "the number of sampling steps is the server's to choose",
                code="unsupported",
                wanted=str(self.contract.num_inference_steps),
                found=str(ask.num_steps),
                remedy="leave it out, or start the server with --policy.num_inference_steps",
            )
        if ask.control_rate_hz is not None:
            require_rate(ask.control_rate_hz, self.contract.control_rate_hz)
        if len(ask.observations) > self.config.max_batch:
            raise Refused(
                "the message holds too many examples",
                code="unsupported",
                wanted=f"at most {self.config.max_batch}, --max_batch of the server",
                found=str(len(ask.observations)),
                remedy="send them in several messages",
            )
        deadline = None if ask.deadline_ms is None else arrived + ask.deadline_ms / 1000
        questions = [
            Question(
                observation=translate(one, session.address.family, self.contract),
                underway=underway,
                looks=looks,
                seed=ask.seed,
                deadline=deadline,
                arrived=arrived,
            )
            for one, looks in zip(ask.observations, session.looks_of(len(ask.observations)), strict=True)
        ]
        return list(await asyncio.gather(*map(self.batcher.ask, questions)))

    def _refuse(self, session: Session, error: Refused) -> bytes | str | None:
        self.metrics.refused[error.code] += 1
        logger.info("refused (%s): %s", session.address.family, error.problem)
        return dialects.pack_error(session.address, error) if session.address.answered else None


_QUIET = logging.getLogger(f"{__name__}.websockets")
_QUIET.setLevel(logging.CRITICAL)
"""Handshakes that fail and connections that break are every day's business; /metrics counts them."""


def _as_refusal(error: UserError) -> Refused:
    """Return what is wrong with an observation, as the policy has told it, for its sender."""
    return Refused(error.problem, code="observation", wanted=error.wanted, found=error.found, remedy=error.remedy)


def _notice_death(connection: ServerConnection) -> None:
    """Let TCP find out within about a minute that a robot has lost its power or its network."""
    found: Any = connection.transport.get_extra_info("socket")
    if found is None:
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def seconds_text(seconds: float) -> str:
    """Return a duration, for people."""
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{math.ceil(10 * seconds) / 10:.1f} s"
