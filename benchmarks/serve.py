"""Measure `pi05 serve`: requests per second, latency, and how fast /healthz answers meanwhile, for 1 to 8 clients.

    python benchmarks/serve.py                                  tiny and medium network; 1, 2, 4 and 8 clients
    python benchmarks/serve.py --networks tiny --seconds 2 --clients 1,8
    python benchmarks/serve.py --openpi websocket_policy_server.py
                                     beside openpi's own server class, `src/openpi/serving/websocket_policy_server.py`
                                     of its repository, with the same policy function; needs the package openpi-client

The server is a process of its own, one for all numbers of clients; clients are threads of this one, each asking again
as soon as it is answered, with two 224 × 224 pictures as openpi's LIBERO client sends them. Every question that was
sent until the time is up is answered and counted, and rates are by the time of the last answer, so that a batch is
never counted in part. Threads of both servers wait as `pi05 serve` lets them (OMP_WAIT_POLICY). /healthz is asked over
a new connection each, 40 times a second at most. CPU seconds and memory are the server's. `network` tells what batching
can give at most on this machine: time and CPU seconds of one run of the network for 1, 2, 4 and 8 observations, without
a server. An answer that takes longer than `--longest` ends the run with an error. The result goes to
benchmarks/results/ after every measurement; `complete` says whether it was the last.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from serve_policies import NETWORKS, make_policy, observation
from websockets.sync.client import connect

from pi05.cli import WAITING
from pi05.machine import machine_info
from pi05.serve.arrays import pack, unpack
from pi05.serve.engine import Engine, prepare

SECONDS = {"tiny": 6.0, "medium": 12.0}
"""Of asking, for each number of clients; the answers to what was asked last come on top."""
BETWEEN_HEALTHZ_S = 0.025
HERE = Path(__file__).resolve().parent


def main() -> None:
    """Parse the arguments, measure, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(NETWORKS), help="separated by commas")
    parser.add_argument("--clients", default="1,2,4,8", help="numbers of clients, separated by commas")
    parser.add_argument("--seconds", type=float, help=f"for each number of clients; by default {SECONDS}")
    parser.add_argument("--longest", type=float, default=60.0, help="seconds that an answer may take")
    parser.add_argument("--threads", type=int, help="CPU threads of the network; PyTorch's choice when not given")
    parser.add_argument("--openpi", type=Path, help="openpi's websocket_policy_server.py, whose class is measured too")
    parser.add_argument("--out", type=Path, help="by default benchmarks/results/serve_DATE.json")
    options = parser.parse_args()
    networks, clients = options.networks.split(","), [int(count) for count in options.clients.split(",")]
    if not set(networks) <= set(NETWORKS):
        parser.error(f"--networks={options.networks}: there are {', '.join(NETWORKS)}")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    target = options.out or HERE / "results" / f"serve_{date.today().isoformat()}.json"
    result: dict[str, Any] = {"date": date.today().isoformat(), "machine": machine_info(), "complete": False}
    result |= {"threads": torch.get_num_threads(), "pictures": "2 × 224 × 224 × 3 bytes", "networks": {}}
    for network in networks:
        found: dict[str, Any] = {"network": network_alone(network), "runs": []}
        result["networks"][network] = found
        for name in ("ours", "openpi") if options.openpi else ("ours",):
            with server(name, network, options) as (port, pid):
                for count in clients:
                    seconds = options.seconds or SECONDS[network]
                    run = {"server": name, "clients": count, **measure(port, pid, count, seconds, options.longest)}
                    found["runs"].append(run)
                    write(target, result)
                    print(line(network, run), flush=True)
            found[f"{name}_gain_at_{max(clients)}_clients"] = gain(found["runs"], name, max(clients))
    result["complete"] = True
    write(target, result)
    print(f"written to {target}")


def write(target: Path, result: dict[str, Any]) -> None:
    """Write what there is so far."""
    target.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def gain(runs: list[dict[str, Any]], name: str, most: int) -> float:
    """Return how many times the requests of one client that many clients get together."""
    rates = {run["clients"]: run["requests_per_s"] for run in runs if run["server"] == name}
    return round(float(rates[most] / rates[min(rates)]), 2)


def line(network: str, run: dict[str, Any]) -> str:
    """Return one measurement, for people."""
    latency, health = run["latency_ms"], run["healthz_ms"]
    return (
        f"{network:7} {run['server']:7} {run['clients']} clients  {run['requests_per_s']:7.2f} requests/s  "
        f"p50 {latency['p50']:.0f} p95 {latency['p95']:.0f} p99 {latency['p99']:.0f} ms  "
        f"/healthz p50 {health['p50']:.1f} p99 {health['p99']:.1f} ms  {run['mean_batch'] or 1:.1f} in a batch  "
        f"{1000 * run['cpu_seconds_per_request']:.1f} CPU ms a request  {run['resident_mib']:.0f} MiB"
    )


def network_alone(network: str) -> dict[str, dict[str, float]]:
    """Return what one run of the network takes by the number of observations, the best of a few."""
    policy = make_policy(network)
    prepare(policy)
    engine = Engine(policy)
    found = {}
    for size in (1, 2, 4, 8):
        engine.warm_up([size])
        times = []
        for _ in range(5 if network == "tiny" else 2):
            cpu = time.process_time()
            times.append((engine.warm_up([size]), time.process_time() - cpu))
        found[str(size)] = {"seconds": round(min(times)[0], 5), "cpu_seconds": round(min(cpu for _, cpu in times), 5)}
    return found


@contextmanager
def server(name: str, network: str, options: argparse.Namespace) -> Iterator[tuple[int, int]]:
    """Start a server in a process of its own; give its port and process."""
    words = [sys.executable, str(HERE / "serve_sides.py"), name, network]
    words += ["--openpi", str(options.openpi)] if name == "openpi" else []
    words += ["--threads", str(options.threads)] if options.threads is not None else []
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ | {WAITING: "PASSIVE"})
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        if not said:
            raise SystemExit(f"the server did not start: {' '.join(words)}")
        yield int(said), process.pid
    finally:
        process.kill()
        process.wait()


def measure(port: int, pid: int, count: int, seconds: float, longest: float) -> dict[str, Any]:
    """Return what `count` clients get from a server. Raises what a client raised: a wrong, late or missing answer."""
    stop, ready = threading.Event(), threading.Barrier(count + 1)
    with ThreadPoolExecutor(count + 1) as pool:
        clients = [pool.submit(ask, port, number, ready, stop, longest) for number in range(count)]
        try:
            ready.wait(timeout=longest)  # every client has been answered once
            before, cpu, started = batches(port), cpu_seconds(pid), time.perf_counter()
            health = pool.submit(ask_health, port, stop, longest)
            until = started + seconds
            while time.perf_counter() < until and not any(client.done() for client in clients):
                time.sleep(0.05)
        finally:
            stop.set()
            ready.abort()
        answers = [client.result() for client in clients]
        healthy = health.result()
    spent, after = cpu_seconds(pid) - cpu, batches(port)
    ended = max(moment for client in answers for moment, _ in client)
    latencies = np.array([latency for client in answers for _, latency in client])
    runs = None if before is None or after is None else (after[0] - before[0]) / max(after[1] - before[1], 1)
    return {
        "requests": len(latencies),
        "seconds": round(ended - started, 2),
        "requests_per_s": round(len(latencies) / (ended - started), 3),
        "latency_ms": percentiles(latencies),
        "healthz": len(healthy),
        "healthz_ms": percentiles(np.array(healthy)),
        "fewest_and_most_of_a_client": [min(map(len, answers)), max(map(len, answers))],
        "mean_batch": None if runs is None else round(runs, 2),
        "cpu_seconds_per_request": round(spent / len(latencies), 5),
        "resident_mib": round(resident_mib(pid), 1),
    }


def percentiles(seconds: np.ndarray) -> dict[str, float]:
    """Return the middle, the slow tail and the worst, in milliseconds."""
    values = np.percentile(seconds, (50, 95, 99, 100)) * 1000
    return {name: round(float(value), 2) for name, value in zip(("p50", "p95", "p99", "max"), values, strict=True)}


def ask(
    port: int, number: int, ready: threading.Barrier, stop: threading.Event, longest: float
) -> list[tuple[float, float]]:
    """Ask again and again until told to stop; return when each answer came and how long it took."""
    frame, answers = pack(observation(number)), []
    address = f"ws://127.0.0.1:{port}"
    with connect(address, compression=None, max_size=None, ping_interval=None, proxy=None, open_timeout=longest) as one:

        def answered() -> float:
            started = time.perf_counter()
            one.send(frame)
            answer = one.recv(timeout=longest)
            seconds = time.perf_counter() - started
            if isinstance(answer, str):
                raise RuntimeError(answer)
            if unpack(answer)[0]["actions"].shape[1] != 7:
                raise RuntimeError("the answer holds no actions")
            return seconds

        one.recv(timeout=longest)
        try:
            answered()
        except BaseException:
            ready.abort()
            raise
        ready.wait(timeout=longest)
        while not stop.is_set():
            seconds = answered()
            answers.append((time.perf_counter(), seconds))
    return answers


def ask_health(port: int, stop: threading.Event, longest: float) -> list[float]:
    """Ask for /healthz over a new connection each; return the seconds that the answers took."""
    seconds = []
    while not stop.wait(BETWEEN_HEALTHZ_S):
        started = time.perf_counter()
        page(port, "/healthz", longest)
        seconds.append(time.perf_counter() - started)
    return seconds


def page(port: int, path: str, longest: float = 30.0) -> str:
    """Return a page of the server. Raises RuntimeError where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=longest)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"{path} answers {answer.status}")
        return answer.read().decode()
    finally:
        connection.close()


def batches(port: int) -> tuple[float, float] | None:
    """Return how many questions our server has answered in how many runs of the network; openpi's does not tell."""
    try:
        text = page(port, "/metrics")
    except RuntimeError:
        return None
    values = dict(each.rsplit(" ", 1) for each in text.splitlines() if each.startswith("pi05_batch_size_"))
    return float(values["pi05_batch_size_sum"]), float(values["pi05_batch_size_count"])


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Return the memory that a process has, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


if __name__ == "__main__":
    main()
