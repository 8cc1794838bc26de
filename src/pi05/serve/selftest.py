"""`pi05 serve --selftest`: the whole way there and back, compared with the policy itself, bit for bit.

One client asks, so each batch holds one observation: in floating point a batch of several is equal to its members only
up to rounding, and that difference is measured and told apart.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pi05.data.robot.stored_observations import OBSERVATIONS, read_observations
from pi05.errors import ServeError
from pi05.serve.client import PolicyClient
from pi05.serve.config import ServeConfig
from pi05.serve.door import read_key
from pi05.serve.engine import Engine, example_observation
from pi05.serve.listener import bind
from pi05.serve.rtc import next_chunks
from pi05.serve.server import PolicyServer
from pi05.serve.underway import Underway

SEED = 20260105
PATIENCE_MS = 600_000.0


@dataclass(frozen=True, kw_only=True)
class Tested:
    """What a self-test found."""

    observations: int
    stored: bool
    """Whether they are the run's own; otherwise they were made up."""
    chunking: str
    """How the second chunk for each observation has continued the first."""
    batch: int
    batch_difference: float
    """Largest difference of an action in a batch of several from the same alone, in robot units."""
    p50_ms: float

    def render(self) -> str:
        """Return the result as lines."""
        whose = "stored by the run" if self.stored else "made up, because the folder holds none"
        continued = f", and a second, {self.chunking} chunk what next_chunks answers" * (self.chunking != "synchronous")
        return "\n".join(
            [
                f"self-test: {self.observations} observations, {whose}: what the server answers is what Policy.infer "
                f"answers, bit for bit (one client, so nothing is batched){continued}",
                f"  in a batch of {self.batch} the same actions differ by at most {self.batch_difference:.2g}, which "
                "is rounding",
                f"  {self.p50_ms:.1f} ms there and back, in the middle",
            ]
        )


def stored_observations(folder: Path | None, engine: Engine) -> tuple[list[dict[str, Any]], bool]:
    """Return the observations that training has kept beside a checkpoint, or made-up ones; and which they are."""
    if folder is not None:
        for place in (folder, *list(folder.resolve().parents)[:2]):
            file = place / "step0" / OBSERVATIONS
            if file.is_file():
                return _under_own_names(read_observations(file), engine), True
    return [example_observation(engine.policy, seed) for seed in range(2)], False


def _under_own_names(observations: list[dict[str, Any]], engine: Engine) -> list[dict[str, Any]]:
    """Return stored observations; cameras that --rename_map has renamed are in the order of the slots there."""
    keys = engine.policy.processor.slots.keys
    renamed = []
    for one in observations:
        pictures = [name for name, value in one.items() if isinstance(value, np.ndarray) and value.ndim == 3]
        if len(pictures) != len(keys):
            raise ServeError(
                "the stored observations are of other cameras than the policy's",
                wanted=f"{len(keys)} pictures: {', '.join(keys)}",
                found=f"{len(pictures)}: {', '.join(pictures)}",
                remedy="test the checkpoint where its run has written it; without step0/observations.npz beside it, "
                "observations are made up",
            )
        rest = {name: value for name, value in one.items() if name not in pictures}
        renamed.append(rest | dict(zip(keys, (one[name] for name in pictures), strict=True)))
    return renamed


def selftest(config: ServeConfig, engine: Engine) -> Tested:
    """Serve on a free port of this machine, ask, compare. Raises ServeError where one bit differs."""
    observations, stored = stored_observations(engine.folder, engine)
    return asyncio.run(_run(config, engine, observations, stored))


async def _run(config: ServeConfig, engine: Engine, observations: list[dict[str, Any]], stored: bool) -> Tested:
    key = read_key(config.key_file)
    listener = bind("127.0.0.1", 0)
    unhurried = replace(config, max_requests_per_s=1e6)
    server = PolicyServer(unhurried, engine.contract, engine.answer_all, key)
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(server.run(listener, stop, ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    try:
        if running.done():
            running.result()
        scheme = "ws" if config.tls_cert is None else "wss"
        address = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        return await asyncio.to_thread(_compare, config, engine, observations, stored, address, key)
    finally:
        waiting.cancel()
        stop.set()
        await running


def _compare(
    config: ServeConfig,
    engine: Engine,
    observations: list[dict[str, Any]],
    stored: bool,
    address: str,
    key: str | None,
) -> Tested:
    with PolicyClient(address, key=key, deadline_ms=PATIENCE_MS, tls=_trusting(config)) as client:
        alone = []
        for i, observation in enumerate(observations):
            got = client.infer(observation, seed=SEED + i, step=2 * i)["actions"]
            generator = torch.Generator().manual_seed(SEED + i)
            want = engine.policy.infer(observation, num_steps=engine.num_steps, generator=generator)["actions"]
            _require_equal(got, want, i)
            alone.append(want)
            if engine.mode != "naive":
                got = client.infer(observation, seed=SEED + i, step=2 * i + 1, delay=1)["actions"]
                _require_equal(got, _continued(engine, observation, want[1:], SEED + i), i)
        p50 = client.latency_ms()["p50"]
    size = min(config.max_batch, 4)
    members = [i % len(observations) for i in range(size)]
    noise = torch.cat(
        [
            torch.randn((1, *engine.policy.noise_shape), generator=torch.Generator().manual_seed(SEED + i))
            for i in members
        ]
    )
    together = engine.policy.infer_batch([observations[i] for i in members], noise=noise, num_steps=engine.num_steps)
    apart = max(float(np.abs(together[k] - alone[i]).max()) for k, i in enumerate(members))
    return Tested(
        observations=len(observations),
        stored=stored,
        chunking=engine.contract.chunking,
        batch=size,
        batch_difference=apart,
        p50_ms=p50,
    )


def _continued(engine: Engine, observation: dict[str, Any], left: np.ndarray, seed: int) -> np.ndarray:
    """Return the chunk that continues what is left of another, by the way that evaluations go."""
    underway, generator = Underway(actions=left, delay=1), torch.Generator().manual_seed(seed)
    asked = (engine.policy, [observation], [underway])
    return next_chunks(*asked, mode=engine.mode, num_steps=engine.num_steps, generator=generator)[0]


def _require_equal(got: np.ndarray, want: np.ndarray, number: int) -> None:
    if got.dtype != want.dtype or got.tobytes() != want.tobytes():
        raise ServeError(
            f"the server's answer to observation {number} is not that of the policy",
            wanted="the same bits",
            found=f"a difference of up to {np.abs(got - want).max():.3g}",
            remedy="report this; do not put this server in front of a robot",
        )


def _trusting(config: ServeConfig) -> Any:
    """Return encryption that trusts the server's own certificate, whatever name it bears; None without one."""
    if config.tls_cert is None:
        return None
    import ssl

    context = ssl.create_default_context(cafile=config.tls_cert)
    context.check_hostname = False
    return context
