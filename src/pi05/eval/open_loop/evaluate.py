"""One open-loop evaluation from its settings to its folder: no simulator, no robot, recorded episodes alone.

    transforms → data set → do they fit? → episodes → folder → each policy: predict, measure, take inputs away → report

Everything that can be refused is refused before the first weight is read. Policies are loaded one after the other, so
that comparing takes no more memory than evaluating. Interrupted, nothing is left behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from pi05.checkpoint.policy_options import PolicyOptions
from pi05.data.lerobot.reader import Dataset
from pi05.data.measures.baselines import Demonstrations, baseline_chunks
from pi05.data.measures.chunk_error import action_moments, frames_of
from pi05.errors import ConfigError, EvaluationError, tell
from pi05.eval.company import launched
from pi05.eval.config import EvalConfig
from pi05.eval.open_loop.candidate import Candidate, open_recordings, read_candidates, require_fits
from pi05.eval.open_loop.episodes import ChosenEpisodes, Wanted, choose_episodes
from pi05.eval.open_loop.errors import Errors, measure, pair
from pi05.eval.open_loop.looks import Looks, choose_looks, observe
from pi05.eval.open_loop.page import open_loop_folder, write_open_loop
from pi05.eval.open_loop.predict import predict
from pi05.eval.open_loop.result import Measured, OpenLoopResult
from pi05.eval.open_loop.sensitivity import measure_sensitivity
from pi05.machine import choose_device, machine_info
from pi05.policy import Policy, open_policy
from pi05.terminal import Counter
from pi05.waits import waiting

MOST_POLICIES = 5
"""As many as charts have colours for, beside that of the baseline."""
FIRST_SEED = 0

Load = Callable[[Candidate], Policy]


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What all policies are measured on."""

    config: EvalConfig
    dataset: Dataset
    chosen: ChosenEpisodes
    looks: Looks
    mean: Float[np.ndarray, " n"]
    scale: Float[np.ndarray, " n"]

    @property
    def lengths(self) -> dict[int, int]:
        """Frames of each evaluated episode."""
        return {number: self.dataset.episodes[number].length for number in self.chosen.numbers}

    @property
    def instructions(self) -> dict[int, str]:
        """Instruction at the start of each evaluated episode."""
        return {number: self.dataset.task(self.dataset.episodes[number].start) for number in self.chosen.numbers}

    def measure(self, chunks: Float[np.ndarray, "D L A n"]) -> Errors:
        """Measure chunks on all looks."""
        return measure(chunks, self.looks, self.scale, self.lengths, self.instructions)


def evaluate_open_loop(
    config: EvalConfig, paths: Sequence[str], *, load: Load | None = None, console: bool = True
) -> OpenLoopResult:
    """Evaluate the policies on recorded episodes, write page and numbers, and return the result.

    `load` replaces what reads a policy's weights. Raises EvaluationError where a policy does not fit the data set, or
    nobody knows which episodes are held out.
    """
    started = time.perf_counter()
    say = tell if console else lambda _: None
    _require_possible(paths)
    choose_device(config.policy.device)  # one that is not there is told now
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with waiting("reading the policies' transforms", say):
        candidates = read_candidates(config, paths)
    for candidate in candidates:
        for note in candidate.notes:
            say(f"note: {candidate.path}: {note}")
    with waiting("reading the data set's episodes and index", say):
        task = _prepare(config, candidates)
    for sentence in task.chosen.warnings:
        say(f"warning: {sentence}")
    with _folder(config, paths) as folder:
        baselines = _baselines(task, candidates[0])
        measured = [_measure(task, candidate, load or partial(_load, config), say, console) for candidate in candidates]
        first = measured[0]
        result = OpenLoopResult(
            config=config.to_dict(),
            policies=tuple(measured),
            baselines=baselines,
            pairs=tuple(
                pair(first.name, other.name, first.errors.by_episode, other.errors.by_episode) for other in measured[1:]
            ),
            chosen=task.chosen,
            looks=task.looks,
            scale=task.scale,
            action_names=tuple(task.dataset.action_names),
            data=_about(task),
            remarks=tuple(_remarks(task, candidates)),
            machine=machine_info(),
            date=datetime.now().astimezone().isoformat(timespec="seconds"),
            wall_s=time.perf_counter() - started,
        )
        page = write_open_loop(result, task.dataset, folder)
    say(f"{result.render()}\nreport: {page}")
    return result


def _require_possible(paths: Sequence[str]) -> None:
    if not 1 <= len(paths) <= MOST_POLICIES:
        raise ConfigError(
            "so many policies do not fit into one report",
            wanted=f"1 to {MOST_POLICIES}",
            found=str(len(paths)),
            remedy="name fewer with --compare",
        )
    if launched()[1] > 1:
        raise EvaluationError(
            "recorded episodes are evaluated by one process",
            wanted="pi05 eval without torchrun",
            found=f"WORLD_SIZE={launched()[1]}",
            remedy="start it once; --policy.device chooses the GPU",
        )


def _prepare(config: EvalConfig, candidates: Sequence[Candidate]) -> _Task:
    """Open the data set, check that the policies fit, and choose what is measured."""
    dataset = open_recordings(config, candidates)
    for candidate in candidates:
        require_fits(candidate, dataset, config.allow)
    wanted: Wanted = config.episodes if config.episodes == "all" or isinstance(config.episodes, tuple) else "held-out"
    chosen = choose_episodes(wanted, dataset, candidates)
    stride = min(candidate.n_action_steps for candidate in candidates)
    horizon = min(candidate.processor.horizon for candidate in candidates)
    mean, scale = action_moments(dataset, chosen.reference)
    looks = choose_looks(dataset, chosen.numbers, stride, horizon)
    return _Task(config=config, dataset=dataset, chosen=chosen, looks=looks, mean=mean, scale=scale)


@contextmanager
def _folder(config: EvalConfig, paths: Sequence[str]) -> Iterator[Path]:
    """Give the output folder, made now, so that a place that cannot be written is told before the work is done.

    Without a report in the end, it is removed, unless something else lies there.
    """
    folder = open_loop_folder(config, list(paths))
    try:
        yield folder
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise


def _baselines(task: _Task, candidate: Candidate) -> dict[str, Errors]:
    known = Demonstrations(
        dataset=task.dataset,
        frames=frames_of(task.dataset, task.chosen.reference),
        mean=task.mean,
        horizon=task.looks.valid.shape[1],
        relative_mask=candidate.processor.relative_mask,
    )
    chunks = baseline_chunks(known, task.looks.frames)
    return {name: task.measure(np.asarray(own)[None]) for name, own in chunks.items()}


def _load(config: EvalConfig, candidate: Candidate) -> Policy:
    device = str(choose_device(config.policy.device))
    return open_policy(candidate.location, device, options=PolicyOptions(**config.told)).policy


def _measure(task: _Task, candidate: Candidate, load: Load, say: Callable[[str], None], shown: bool) -> Measured:
    """Let one policy answer at every look, and at some without each of its inputs."""
    config = task.config
    with waiting(f"loading {candidate.path}", say):
        policy = load(candidate)
    cameras = candidate.processor.slots.keys
    tried = min(config.sensitivity_frames, len(task.looks))
    ask = partial(
        predict,
        policy,
        seed=config.seed or FIRST_SEED,
        num_steps=config.policy.num_inference_steps,
        batch_size=config.batch_size,
    )
    what = "looks" if candidate.name == "policy" else f"looks of {candidate.name}"
    with Counter(len(task.looks), what, enabled=shown) as counter:

        def advance(count: int) -> None:
            for _ in range(count):
                counter.advance()

        own = partial(observe, task.dataset, cameras)
        chunks = ask(own, task.looks.frames, draws=config.draws, advance=advance)
    flagged = tuple(policy.flagged)  # before states are exchanged
    with waiting(f"taking inputs away on {tried} frames", say):
        sensitivity = measure_sensitivity(
            lambda seen, frames: ask(seen, frames, draws=min(1, config.draws))[0],
            task.dataset,
            candidate.processor,
            task.looks,
            task.scale,
            most=config.sensitivity_frames,
        )
    chunks = chunks[:, :, : task.looks.valid.shape[1]]
    return Measured(
        candidate=candidate,
        provenance=policy.provenance,
        chunks=chunks,
        errors=task.measure(chunks),
        sensitivity=sensitivity,
        flagged=flagged,
    )


def _about(task: _Task) -> dict[str, object]:
    return {
        "root": str(task.dataset.root),
        "version": task.dataset.version,
        "fps": task.dataset.fps,
        "lengths": {str(number): length for number, length in task.lengths.items()},
        "tasks": {str(number): text for number, text in task.instructions.items()},
        "notes": list(task.dataset.notes),
    }


def _remarks(task: _Task, candidates: Sequence[Candidate]) -> Iterator[str]:
    """Yield what differs among the policies, and what `--allow` has let pass."""
    for words, values in (
        ("actions of a chunk", {candidate.processor.horizon for candidate in candidates}),
        ("actions carried out before the next look", {candidate.n_action_steps for candidate in candidates}),
    ):
        if len(values) > 1:
            yield f"these policies differ in the {words} ({', '.join(map(str, sorted(values)))}): {min(values)} for all"
    records = [set(candidate.record.train) for candidate in candidates if candidate.record is not None]
    if any(record != records[0] for record in records):
        yield "these policies were not trained on the same episodes; deviations and baselines are those of the first"
    if task.config.allow:
        yield f"let pass by --allow: {', '.join(task.config.allow)}"
