"""`pi05 serve` from the settings to the end: port, policy, warm-up, serving, and a stop that cuts nobody off.

A network that computes cannot be interrupted, and Python would wait for its thread at the exit, for minutes where a
step takes minutes. Nothing on disk hangs on it: the process leaves without it once every client has been told.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import sys
import warnings
from contextlib import suppress
from typing import NoReturn

from PIL import Image

from pi05.errors import INTERRUPTED, ServeError, doing, tell
from pi05.serve.batching import AnswerAll
from pi05.serve.config import ServeConfig
from pi05.serve.door import encryption, read_key, require_safe
from pi05.serve.engine import Engine
from pi05.serve.listener import address_text, bind
from pi05.serve.protocol import Contract
from pi05.serve.selftest import selftest
from pi05.serve.server import PolicyServer, seconds_text
from pi05.waits import waiting


def serve_policy(config: ServeConfig) -> None:
    """Serve a policy until Ctrl-C or SIGTERM, or test the way there and back. Raises UserError for what cannot be."""
    key = read_key(config.key_file)
    require_safe(config, key)
    encryption(config)  # a certificate that cannot be used is told before the weights are read
    with doing("serve", None, ServeError), bind(config.host, config.port) as listener:
        engine = _load(config)
        if config.selftest:
            tell(selftest(config, engine).render(), at_once=True)
            return
        serve_answers(config, engine.contract, engine.answer_all, listener, key)


def _load(config: ServeConfig) -> Engine:
    with waiting("reading the policy", lambda text: tell(text, aside=True, at_once=True)):
        engine = Engine.load(config)
    for note in engine.policy.notes:
        tell(f"note: {note}", aside=True)
    tell(str(engine.policy), at_once=True)
    if config.compile_model:
        _compile(engine)
    sizes = sorted({1, config.max_batch})
    with waiting("warming up", lambda text: tell(text, aside=True, at_once=True)):
        seconds = engine.warm_up([*sizes, 1])
    rate = engine.contract.control_rate_hz
    chunk_s = None if rate is None else engine.contract.n_action_steps / rate
    tell(f"warm    {seconds_text(seconds)} for one observation")
    if chunk_s is not None and seconds > chunk_s:
        tell(
            f"warning: a chunk's {engine.contract.n_action_steps} actions last {seconds_text(chunk_s)} at {rate:g} Hz, "
            "so that the arm will wait for the next one",
            aside=True,
        )
    if rate is not None:
        _tell_delay(engine.contract, math.ceil(seconds * rate))
    return engine


def _compile(engine: Engine) -> None:
    """Compile for every size of a batch, and say how long each took."""
    model, shapes = engine.policy.model, engine.policy.shapes
    if shapes is None:
        raise RuntimeError("the policy was loaded without compilation")
    tell(f"compiling for batches of {', '.join(map(str, shapes.batch_sizes))}, which can take minutes", at_once=True)
    if model.embedding.weight.device.type == "cpu":
        matrices = [one.weight for one in model.tower_maps.values()]
        gigabytes = sum(one.numel() * one.element_size() for one in matrices) / 1e9
        tell(
            f"note: on a CPU each size keeps the matrices once more, laid out for it, {gigabytes:.2g} GB; lower "
            "--max_batch where that is too much",
            aside=True,
        )
    if engine.mode == "guided":
        tell("note: guided chunks are steered step by step, which is not compiled; only what they see is", aside=True)
    for size in shapes.batch_sizes:
        tell(f"built   a batch of {size}: {engine.build(size):.0f} s", at_once=True)


def _tell_delay(contract: Contract, steps: int) -> None:
    """Say how long chunks take in control steps, where they are continued, and whether that is too long."""
    if contract.chunking == "synchronous":
        return
    executed, reaches = contract.n_action_steps, contract.horizon
    tell(f"delay   {steps} control steps for one observation, transport left out; chunks are {contract.chunking}")
    if contract.max_delay is not None and steps > contract.max_delay:
        tell(
            f"warning: the policy was trained to continue at most {contract.max_delay} actions, so that slower answers "
            "are refused; train with a larger --rtc_max_delay, or serve with --chunking=guided",
            aside=True,
        )
    if executed + steps > reaches:
        tell(
            f"warning: {executed} actions from look to look and a delay of {steps} are more than the {reaches} of a "
            "chunk, so that the arm will wait; lower --policy.n_action_steps",
            aside=True,
        )


def serve_answers(
    config: ServeConfig, contract: Contract, answer_all: AnswerAll, listener: socket.socket, key: str | None
) -> None:
    """Serve until Ctrl-C or SIGTERM; a second Ctrl-C ends the process at once, with code 130."""
    warnings.simplefilter("error", Image.DecompressionBombWarning)  # Python would print, and keep, each text of it
    server = PolicyServer(config, contract, answer_all, key)
    asyncio.run(_serve(server, listener, "without a key, from this machine only" if key is None else "with the key"))
    if server.batcher.computing:
        _leave(0, "the network was still computing a batch that nobody waits for: it was given up")


async def _serve(server: PolicyServer, listener: socket.socket, whom: str) -> None:
    config, stop, loop = server.config, asyncio.Event(), asyncio.get_running_loop()

    def interrupt() -> None:
        if stop.is_set():
            _leave(INTERRUPTED, "ended at once; what was in progress was not answered")
        stop.set()

    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if not config.loopback and config.tls_cert is None:
        tell("warning: the key and the pictures travel unencrypted; --tls_cert and --tls_key encrypt them", aside=True)

    def ready() -> None:
        tell(f"ready   {address_text(config, listener)}, {whom}; Ctrl-C stops", at_once=True)

    await server.run(listener, stop, ready)
    answered = sum(server.metrics.answered.values())
    refused = sum(server.metrics.refused.values())
    tell(f"stopped; {answered:,} observations answered, {refused:,} messages refused", at_once=True)


def _leave(code: int, why: str) -> NoReturn:
    """End the process without waiting for its threads, after everything that it has printed is out."""
    with suppress(OSError):  # nobody reads it any more
        tell(why, aside=True, at_once=True)
        sys.stdout.flush()
    os._exit(code)
