"""The servers that `serve.py` measures: ours with default settings, openpi's own with the same policy function.

    python benchmarks/serve_sides.py ours tiny
    python benchmarks/serve_sides.py openpi medium --openpi websocket_policy_server.py

Each prints its port once it is warm, and serves until it is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import torch
from serve_policies import NETWORKS, make_policy

from pi05.serve.config import ServeConfig
from pi05.serve.engine import Engine, prepare
from pi05.serve.listener import bind
from pi05.serve.observations import translate
from pi05.serve.server import PolicyServer

SIDES = ("ours", "openpi")


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--openpi", type=Path, help="openpi's websocket_policy_server.py")
    parser.add_argument("--threads", type=int, help="CPU threads of the network; PyTorch's choice when not given")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    policy = make_policy(options.network)
    prepare(policy)
    engine = Engine(policy)
    if options.side == "ours":
        config = ServeConfig(max_requests_per_s=1e6)  # only the limit on the rate of a client is out of the way
        engine.warm_up([1, config.max_batch])
        serve_ours(engine, config)
    elif options.openpi is None:
        parser.error("openpi's server needs --openpi=FILE")
    else:
        serve_openpi(engine, options.openpi)


def serve_ours(engine: Engine, config: ServeConfig) -> None:
    """Be our server, until killed; print the port when it answers."""
    server = PolicyServer(config, engine.contract, engine.answer_all)
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]

    async def run() -> None:
        await server.run(listener, asyncio.Event(), lambda: print(port, flush=True))

    asyncio.run(run())


def serve_openpi(engine: Engine, file: Path) -> None:
    """Be openpi's own server with the policy function that ours has."""
    specification = importlib.util.spec_from_file_location("openpi_server", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    engine.warm_up([1])

    class SamePolicy:
        """What openpi calls a policy."""

        def infer(self, sent: dict[str, Any]) -> dict[str, Any]:
            """Answer one observation."""
            return {"actions": engine.policy.infer(translate(sent, "openpi", engine.contract))["actions"]}

    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    server = module.WebsocketPolicyServer(SamePolicy(), host="127.0.0.1", port=port)

    async def run() -> None:
        running = asyncio.create_task(server.run())
        while not running.done():  # it does not tell when it listens
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            print(port, flush=True)
            break
        await running

    asyncio.run(run())


if __name__ == "__main__":
    main()
