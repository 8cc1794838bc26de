"""Measure `pi05 serve`: requests per second, latency, and how fast /healthz answers meanwhile, for 1 to 8 clients.

    python benchmarks/serve.py                                tiny network, 1, 2, 4 and 8 clients, 15 s each
    python benchmarks/serve.py --network medium --seconds 40
    python benchmarks/serve.py --openpi CHECKOUT              beside openpi's own server with the same policy function;
                                                              needs `pip install openpi-client`

The server is a process of its own; the clients are threads of this one, each asking again as soon as it is answered,
with 224 × 224 pictures as openpi's LIBERO client sends them. /healthz is asked every 50 ms over a new connection.
`network_seconds` tells what batching can give at most on this machine: the time of one run of the network for 1, 2, 4
and 8 observations, without a server. Servers take turns. The result goes to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import importlib.util
import json
import subprocess
import sys
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from serve_policies import NETWORKS, make_policy, observation

from pi05.machine import machine_info
from pi05.serve.arrays import pack, unpack
from pi05.serve.config import ServeConfig
from pi05.serve.engine import Engine
from pi05.serve.observations import translate
from pi05.serve.server import PolicyServer, bind

CLIENTS = (1, 2, 4, 8)
OPENPI_FILE = "src/openpi/serving/websocket_policy_server.py"
REPOSITORY = Path(__file__).resolve().parents[1]


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, default="tiny")
    parser.add_argument("--seconds", type=float, default=15.0, help="for each number of clients")
    parser.add_argument("--openpi", type=Path, help="a checkout of openpi, whose server is measured beside ours")
    parser.add_argument("--server", choices=("ours", "openpi"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.server == "ours":
        serve_ours(options.network)
    elif options.server == "openpi":
        serve_openpi(options.network, options.openpi)
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Measure the network alone, then every server with every number of clients, and write the result."""
    servers = ("ours", "openpi") if options.openpi else ("ours",)
    result: dict[str, Any] = {"date": date.today().isoformat(), "machine": machine_info(), "network": options.network}
    result["pictures"] = "2 × 224 × 224 × 3 bytes"
    result["network_seconds"] = network_alone(options.network)
    result["runs"] = []
    for count in CLIENTS:
        for name in servers:
            run = {"server": name, "clients": count, **measure_one(name, count, options)}
            result["runs"].append(run)
            print(json.dumps(run), flush=True)
    ours = {run["clients"]: run["requests_per_s"] for run in result["runs"] if run["server"] == "ours"}
    result["gain_at_8_clients"] = round(ours[8] / ours[1], 2)
    target = REPOSITORY / "benchmarks" / "results" / f"serve_{options.network}_{date.today().isoformat()}.json"
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {target}; 8 clients get {result['gain_at_8_clients']} times the requests of one")


def network_alone(network: str) -> dict[str, float]:
    """Return the seconds of one run of the network, the best of five, by the number of observations in it."""
    engine = Engine(make_policy(network))
    engine.warm_up([1, 8])
    return {str(size): round(min(engine.warm_up([size]) for _ in range(5)), 5) for size in CLIENTS}


def measure_one(name: str, count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return what `count` clients get from a server in some seconds."""
    words = [sys.executable, __file__, "--server", name, "--network", options.network]
    words += ["--openpi", str(options.openpi)] if options.openpi else []
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        stop = threading.Event()
        latencies: list[list[float]] = [[] for _ in range(count)]
        health: list[float] = []
        threads = [threading.Thread(target=ask, args=(port, i, stop, latencies[i])) for i in range(count)]
        threads.append(threading.Thread(target=ask_health, args=(port, stop, health)))
        for thread in threads:
            thread.start()
        time.sleep(options.seconds)
        stop.set()
        for thread in threads:
            thread.join()
    finally:
        process.kill()
        process.wait()
    together = np.array(sorted(one for client in latencies for one in client))
    return {
        "requests": len(together),
        "requests_per_s": round(len(together) / options.seconds, 2),
        "latency_ms": percentiles(together),
        "healthz_ms": percentiles(np.array(health)),
        "fewest_and_most_of_a_client": [min(map(len, latencies)), max(map(len, latencies))],
    }


def percentiles(seconds: np.ndarray) -> dict[str, float]:
    """Return the middle, the slow tail and the worst, in milliseconds."""
    values = np.percentile(seconds, (50, 95, 99, 100)) * 1000
    return {name: round(float(value), 1) for name, value in zip(("p50", "p95", "p99", "max"), values, strict=True)}


def ask(port: int, number: int, stop: threading.Event, latencies: list[float]) -> None:
    """Ask one server, again and again."""
    from websockets.sync.client import connect

    frame = pack(observation(number))
    with connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None, ping_interval=None, proxy=None) as socket:
        socket.recv()
        while not stop.is_set():
            started = time.perf_counter()
            socket.send(frame)
            answer = socket.recv()
            latencies.append(time.perf_counter() - started)
            if isinstance(answer, str):
                raise RuntimeError(answer)
            assert unpack(answer)[0]["actions"].shape[1] == 7


def ask_health(port: int, stop: threading.Event, seconds: list[float]) -> None:
    """Ask for /healthz every 50 ms, over a new connection each."""
    while not stop.wait(0.05):
        started = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()
        seconds.append(time.perf_counter() - started)


def serve_ours(network: str) -> None:
    """Be our server, with default settings, until killed."""
    engine = Engine(make_policy(network))
    engine.warm_up([1, 8])
    server = PolicyServer(ServeConfig(max_requests_per_s=1e6), engine.contract, engine.answer_all)
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]

    async def run() -> None:
        await server.run(listener, asyncio.Event(), lambda: print(port, flush=True))

    asyncio.run(run())


def serve_openpi(network: str, checkout: Path) -> None:
    """Be openpi's own server class with the same policy function behind it, until killed."""
    specification = importlib.util.spec_from_file_location("openpi_server", checkout / OPENPI_FILE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    engine = Engine(make_policy(network))
    engine.warm_up([1])

    class SamePolicy:
        """The policy function that our server has."""

        def infer(self, sent: dict[str, Any]) -> dict[str, Any]:
            """Answer one observation."""
            return {"actions": engine.policy.infer(translate(sent, "openpi", engine.contract))["actions"]}

    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    server = module.WebsocketPolicyServer(SamePolicy(), host="127.0.0.1", port=port)

    async def run() -> None:
        running = asyncio.create_task(server.run())
        await asyncio.sleep(1.0)
        print(port, flush=True)
        await running

    asyncio.run(run())


if __name__ == "__main__":
    main()
