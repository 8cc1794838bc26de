"""Measure everything, then judge it: what waits (torch, the hub, frames) is measured at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pi05.doctor.facts import Facts, Torch
from pi05.doctor.judge.gpu import judge_gpu
from pi05.doctor.judge.interpreter import judge_interpreter
from pi05.doctor.judge.network import judge_network
from pi05.doctor.judge.rendering import judge_rendering
from pi05.doctor.judge.system import judge_system
from pi05.doctor.judge.trackers import judge_trackers
from pi05.doctor.judge.video import judge_video
from pi05.doctor.probes.cards import probe_cards
from pi05.doctor.probes.interpreter import probe_interpreter
from pi05.doctor.probes.machine import probe_machine
from pi05.doctor.probes.network import probe_network
from pi05.doctor.probes.rendering import probe_rendering
from pi05.doctor.probes.system import probe_system
from pi05.doctor.probes.torch_process import probe_torch
from pi05.doctor.probes.trackers import probe_trackers
from pi05.doctor.probes.video import probe_video
from pi05.finding import Finding


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What to look at."""

    output: Path = Path("runs")
    """Where runs will be written."""
    offline: bool = False
    """Open no connection."""
    short: bool = False
    """Leave out what takes seconds: kernels, frames, connections, the speed of disks."""


def measure(wanted: Examination, say: Callable[[str], None]) -> Facts:
    """Run the probes. `say` hears what is waited for."""
    machine, interpreter, cards = probe_machine(), probe_interpreter(), probe_cards()
    system = probe_system(wanted.output, measure_speed=not wanted.short)
    if not wanted.short:
        say("asking torch, the hub and the simulators")
    with ThreadPoolExecutor() as pool:
        torch_answer = pool.submit(probe_torch, kernels=not wanted.short)
        if wanted.short:
            return Facts(
                machine=machine,
                interpreter=interpreter,
                cards=cards,
                system=system,
                video=probe_video(),
                torch=torch_answer.result(),
            )
        network_answer = pool.submit(probe_network, offline=wanted.offline)
        rendering = probe_rendering()
        video, network = probe_video(), network_answer.result()
        trackers = probe_trackers(offline=network.offline is not None, hub_token=network.token is not None)
        torch = torch_answer.result()
    return Facts(
        machine=machine,
        interpreter=interpreter,
        cards=cards,
        torch=torch,
        system=system,
        video=video,
        network=network,
        trackers=trackers,
        rendering=rendering,
    )


def judge(facts: Facts) -> list[Finding]:
    """Return the findings, in the order in which they are read."""
    return list(_judge(facts))


def _judge(facts: Facts) -> Iterator[Finding]:
    machine = facts.machine
    yield from judge_gpu(facts.cards, facts.torch, machine)
    yield from judge_interpreter(facts.interpreter, machine, facts.torch, facts.cards.gpus)
    if facts.video is not None:
        yield from judge_video(facts.video, machine)
    if facts.rendering is not None:
        yield from judge_rendering(facts.rendering, machine)
    yield from judge_system(facts.system, machine, gpu_count(facts.torch, facts))
    if facts.network is not None:
        yield from judge_network(facts.network, machine)
    if facts.trackers is not None:
        yield from judge_trackers(facts.trackers, machine)


def gpu_count(torch: Torch, facts: Facts) -> int:
    """Return how many GPUs a run would have: what torch sees, or what the driver says while torch is broken."""
    return len(torch.devices) or len(facts.cards.gpus)


def compared(facts: Facts) -> dict[str, str]:
    """Return what has to be the same on every worker of a run."""
    gpus = [gpu.name for gpu in facts.cards.gpus]
    return {
        "Python": ".".join(map(str, facts.interpreter.version)),
        "torch": facts.torch.version or "none",
        "CUDA of torch": facts.torch.cuda or "none",
        "NCCL": facts.torch.nccl or "none",
        "driver": facts.cards.gpus[0].driver if facts.cards.gpus else "none",
        "GPUs": ", ".join(f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus)) or "none",
        **{package.name: package.found or "none" for package in facts.interpreter.packages},
    }
