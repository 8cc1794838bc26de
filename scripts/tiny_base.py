"""Make the packaged base `pi05-tiny`: its tokenizer, its pre-training, its evaluation. Run by `make tiny-base`.

The base learns table-top instructions of the family `base` from scripted demonstrations that are generated in memory
(as `pi05 collect` would write them, without the detour through video). It never sees the family `demo`. Everything
follows from the seed, except the order of floating-point sums on other processors. The run can be cut off: it goes on
from its last snapshot.

    python scripts/tiny_base.py --output build/tiny-base --steps 8000
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Iterator
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from tiny_teacher import Teacher, label
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

import pi05
from pi05.checkpoint.store import Checkpoint, save_checkpoint, write_atomic
from pi05.data.cameras import assign_slots
from pi05.data.processor import Processor
from pi05.data.statistics import DimStats
from pi05.data.tokenizer import Tokenizer
from pi05.eval.config import EvalConfig
from pi05.eval.result import wilson_interval
from pi05.eval.rollout import run_episodes
from pi05.model.config import ModelConfig, tiny
from pi05.model.flow import sample_time
from pi05.model.pi05 import Pi05
from pi05.policy import Policy
from pi05.sim.config import DemonstrationChoice, EnvironmentChoice
from pi05.sim.environments import environment_maker, expert_maker
from pi05.sim.episodes import demonstrate
from pi05.sim.tabletop import ACTION_NAMES, FPS, STATE_NAMES
from pi05.sim.tabletop_tasks import FAMILIES, SIDES
from pi05.types import Batch

CAMERAS = ("observation.images.scene", "observation.images.wrist")
FIRST_SEED = 500_000_000  # far from the seeds of collected data sets (from 0) and of evaluations (from 10⁹)
EMA_DECAY = 0.999
WORDS = """
the a an and then to of in into on onto off at from with near next left right top bottom front back
middle up down side edge corner table robot arm gripper hand pick place put drop move push pull grasp
grab lift stack open close turn rotate pour wipe fold insert take bring give hold release slide press
touch sort pack unpack reach return block cube ball star ring disc plate tray bowl cup mug box bin
basket drawer door lid bottle can jar pen marker cloth towel sponge spoon fork knife pot pan button
lever handle switch tape screw peg hole toy apple banana orange red green blue yellow white black grey
pink purple cyan brown gold silver small large big first second both all one two three object item
""".split()  # noqa: SIM905 - a list of 130 quoted words is unreadable


def build_tokenizer(path: Path, vocab_size: int) -> None:
    """Write a byte-level tokenizer: any text works; common words, the numbers 0 … 255 and the frame are short."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    known = set(WORDS) | {word for family in FAMILIES.values() for word in (*family.items, *family.targets, *SIDES)}
    corpus = [f" {word}" for word in sorted(known)] + [f" {number}" for number in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 3,
        min_frequency=1,
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for text in corpus for _ in range(20)), trainer)
    frame = ["Task:", ", State:", ";\nAction: "]
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in frame])
    write_atomic(path, tokenizer.to_str().encode())


def demonstrations(arguments: tuple[int, int]) -> list[tuple[str, list[np.ndarray]]]:
    """Return episodes as (instruction, [pictures, states, actions]) for seeds first … first + count - 1."""
    first, count = arguments
    env, expert = expert_maker(DemonstrationChoice(family="base"))()
    grid = tiny().image_size // tiny().patch_size
    episodes = []
    for seed in range(first, first + count):
        frames = []
        for observation, action, _ in demonstrate(env, expert, seed):
            pictures = np.stack([observation[key] for key in CAMERAS])
            frames.append((pictures, observation["observation.state"], action, label(env, expert, grid)))
        episodes.append((observation["task"], [np.stack(column) for column in zip(*frames, strict=True)]))
    return episodes


class Demonstrations:
    """All frames in memory, encoded once."""

    def __init__(self, episodes: list[tuple[str, list[np.ndarray]]], tokenizer: Tokenizer, config: ModelConfig) -> None:
        states = np.concatenate([columns[1] for _, columns in episodes])
        actions = np.concatenate([columns[2] for _, columns in episodes])
        self.processor = Processor(
            slots=assign_slots(CAMERAS),
            state_stats=dimension_statistics(states),
            action_stats=dimension_statistics(actions),
            tokenizer=tokenizer,
            image_size=config.image_size,
            action_dim=config.action_dim,
            horizon=config.horizon,
            max_prompt_tokens=config.max_prompt_tokens,
            fps=FPS,
            action_names=ACTION_NAMES,
            state_names=STATE_NAMES,
        )
        self.images = torch.from_numpy(np.concatenate([columns[0] for _, columns in episodes]))
        tasks = [task for task, columns in episodes for _ in columns[1]]
        prompts = self.processor.encode_prompts(tasks, states)
        self.lengths = torch.tensor([len(prompt) for prompt in prompts])
        self.tokens = torch.zeros(len(prompts), int(self.lengths.max()), dtype=torch.int64)
        for row, prompt in zip(self.tokens, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        self.labels = torch.from_numpy(np.concatenate([columns[3] for _, columns in episodes]))
        chunks = [self._chunks(columns, config.horizon) for _, columns in episodes]
        self.actions = torch.from_numpy(np.concatenate(chunks))

    def _chunks(self, columns: list[np.ndarray], horizon: int) -> np.ndarray:
        """Return the chunk of each frame; past the end the last action (stay, open) is repeated, and learnt."""
        _, states, actions, _ = columns
        steps = np.minimum(np.arange(len(actions))[:, None] + np.arange(horizon), len(actions) - 1)
        return self.processor.encode_actions(actions[steps], states)[..., : len(ACTION_NAMES)]

    def batch(self, indices: torch.Tensor, action_dim: int) -> Batch:
        """Return the frames with these indices."""
        actions = torch.nn.functional.pad(self.actions[indices], (0, action_dim - self.actions.shape[-1]))
        mask = torch.arange(self.tokens.shape[1]) < self.lengths[indices][:, None]
        return Batch(self.images[indices], None, self.tokens[indices], mask, actions).trim(bucket=1)


def dimension_statistics(values: np.ndarray) -> DimStats:
    """Return exact statistics per dimension."""
    values = values.astype(np.float64)
    low, high = np.quantile(values, [0.01, 0.99], axis=0)
    return DimStats(
        mean=values.mean(0),
        std=values.std(0),
        min=values.min(0),
        max=values.max(0),
        q01=low,
        q99=high,
        count=len(values),
    )


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Warm up over 200 steps, stay, decay to zero over the last third."""
    return peak * min(1.0, (step + 1) / 200, max(0.0, (steps - step) / (steps / 3)))


def fresh_model(config: ModelConfig, seed: int) -> Pi05:
    """Return initial weights: openpi's, adapted to a network that learns to see from nothing.

    The expert's gates start at 1, without which little moves at first. Pictures and positions enter the stream at the
    strength of what the blocks add to it: with openpi's values they drown, and nothing was localised after 32,000
    samples.
    """
    model = Pi05(config)
    generator = torch.Generator().manual_seed(seed)
    model.initialize(generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("modulation.bias"):
                parameter[2 * config.expert_width :] = 1.0
            if name.endswith(("attention.out.weight", "mlp.down.weight")):
                parameter *= 0.4
        model.vision.patch_embedding.weight *= 3.0
        model.vision.position_embedding.normal_(std=0.7, generator=generator)
    return model


def draw_times(count: int, generator: torch.Generator) -> torch.Tensor:
    """Return flow times: half of π₀.₅'s distribution, half from 0.9 to 1, where only picture and prompt can help."""
    times = sample_time(count, generator)
    times[::2] = 0.9 + 0.1 * torch.rand(len(times[::2]), generator=generator)
    return times


def batches(frames: int, size: int, seed: int, first: int) -> Iterator[torch.Tensor]:
    """Yield frame indices: each epoch is a shuffle of its own, a function of seed and epoch."""
    per_epoch = frames // size
    for step in range(first, 2**31):
        epoch, position = divmod(step, per_epoch)
        if step == first or position == 0:
            order = torch.randperm(frames, generator=torch.Generator().manual_seed(seed * 1000 + epoch))
        yield order[position * size : (position + 1) * size]


def success(policy: Policy, family: str, episodes: int) -> dict[str, Any]:
    """Return the success rate on layouts that no training saw."""
    settings = EvalConfig(family=family, episodes=episodes)
    results = run_episodes(policy, environment_maker(EnvironmentChoice(family=family)), settings)
    wins = sum(result.outcome == "success" for result in results)
    low, high = wilson_interval(wins, episodes)
    return {"family": family, "episodes": episodes, "success": wins / episodes, "wilson_95": [low, high]}


def main() -> None:
    """Generate, train, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("build/tiny-base"))
    parser.add_argument("--episodes", type=int, default=12_000)
    parser.add_argument("--steps", type=int, default=8_000)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--flow_samples", type=int, default=2)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--snapshot_every", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = tiny()
    options.output.mkdir(parents=True, exist_ok=True)
    build_tokenizer(options.output / "tokenizer.json", config.vocab_size)
    work = [(FIRST_SEED + first, 100) for first in range(0, options.episodes, 100)]
    with get_context("spawn").Pool(2) as pool:
        episodes = [episode for part in pool.map(demonstrations, work) for episode in part]
    data = Demonstrations(episodes, Tokenizer.load(options.output), config)
    del episodes
    print(f"{len(data.images):,} frames; prompts of up to {data.tokens.shape[1]} tokens", flush=True)
    train(config, data, options)


def train(config: ModelConfig, data: Demonstrations, options: argparse.Namespace) -> None:
    """Fit, logging to OUTPUT/log.jsonl; snapshot and evaluate as it goes."""
    model, average = fresh_model(config, options.seed), Pi05(config)
    average.load_state_dict(model.state_dict())
    teacher = Teacher(model)
    learnt = [*model.parameters(), *teacher.parameters()]
    matrices = [parameter for parameter in learnt if parameter.ndim > 1]
    vectors = [parameter for parameter in learnt if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.95), fused=True)
    generator, snapshot, first = torch.Generator().manual_seed(options.seed), options.output / "snapshot.pt", 0
    if snapshot.exists():
        state = torch.load(snapshot, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        teacher.load_state_dict(state["teacher"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        first = state["step"]
    log = (options.output / "log.jsonl").open("a")
    started, losses = time.perf_counter(), []
    robot_dim = len(ACTION_NAMES)
    for step, indices in enumerate(batches(len(data.images), options.batch_size, options.seed, first), start=first):
        if step == options.steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options.steps, options.lr)
        batch = data.batch(indices, config.action_dim)
        times = draw_times(len(indices) * options.flow_samples, generator)
        errors = model.loss(batch, time=times, generator=generator, flow_samples=options.flow_samples)
        loss = errors[..., :robot_dim].mean()
        taught = teacher.losses(data.labels[indices], data.lengths[indices])
        (loss + sum(taught.values())).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            decay = min(EMA_DECAY, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        losses.append(torch.stack([loss, *taught.values()]).detach())
        if (step + 1) % 100 == 0:
            rate = (step + 1 - first) * options.batch_size / (time.perf_counter() - started)
            means = [round(value, 5) for value in torch.stack(losses).mean(dim=0).tolist()]
            entry: dict[str, Any] = {"step": step + 1, **dict(zip(("loss", *taught), means, strict=True))}
            entry["samples_per_s"] = round(rate, 1)
            losses = []
            if (step + 1) % options.snapshot_every == 0:
                state = {"model": model.state_dict(), "average": average.state_dict(), "step": step + 1}
                state["teacher"] = teacher.state_dict()
                state |= {"optimizer": optimizer.state_dict(), "generator": generator.get_state()}
                torch.save(state, snapshot.with_suffix(".tmp"))
                snapshot.with_suffix(".tmp").rename(snapshot)
                policy = Policy(average, data.processor)
                entry["base"] = success(policy, "base", 100)["success"]
                write(average, data, options, options.output / f"step-{step + 1:06d}", step + 1)
            if not math.isfinite(entry["loss"]):
                raise SystemExit("the loss is not finite")
            print(json.dumps(entry), flush=True)
            log.write(json.dumps(entry) + "\n")
            log.flush()
    finish(average, data, options)


def finish(average: Pi05, data: Demonstrations, options: argparse.Namespace) -> None:
    """Evaluate the average on both families and write the base and its evaluation."""
    policy = Policy(average, data.processor)
    record = {
        "date": date.today().isoformat(),
        "machine": {"processor": platform.machine(), "threads": options.threads, "torch": torch.__version__},
        "settings": {name: str(value) for name, value in vars(options).items()},
        "parameters": sum(parameter.numel() for parameter in average.parameters()),
        "frames": len(data.images),
        "results": [success(policy, "base", 200), success(policy, "demo", 200)],
    }
    write_atomic(options.output / "evaluation.json", (json.dumps(record, indent=2) + "\n").encode())
    write(average, data, options, options.output / "pi05-tiny", options.steps)
    print(json.dumps(record["results"]), flush=True)


def write(model: Pi05, data: Demonstrations, options: argparse.Namespace, folder: Path, step: int) -> None:
    """Write a checkpoint folder."""
    settings = {
        "model": model.config.to_dict(),
        "processor": data.processor.to_dict(),
        "base": {"source": "scripts/tiny_base.py", "seed": options.seed},
        "step": step,
        "pi05_version": pi05.__version__,
        "fps": FPS,
    }
    tokenizer = data.processor.tokenizer
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    checkpoint = Checkpoint(
        config=settings, weights=weights, tokenizer_name=tokenizer.file_name, tokenizer_bytes=tokenizer.file_bytes()
    )
    save_checkpoint(folder, checkpoint)


if __name__ == "__main__":
    main()
