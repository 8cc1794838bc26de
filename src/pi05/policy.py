"""Observation in, action chunk out: the processors and the network as one object, for evaluation, serving and export.

Leaves out how actions are executed (how many of a chunk, how fast): `eval/rollout.py` decides that. Nothing in a policy
changes with use, except what it remembers of the last looks, and of what it has already warned of.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pi05.checkpoint.load import read_model
from pi05.checkpoint.locate import Location, locate
from pi05.checkpoint.policy_folder import read_transforms
from pi05.checkpoint.policy_options import PolicyOptions
from pi05.checkpoint.receipt import Receipt, tell_origin
from pi05.checkpoint.store import read_checkpoint_config
from pi05.data.collate import StaticShapes, collate, static_shapes
from pi05.data.processor import Processor
from pi05.data.requirements import require_finite_actions
from pi05.data.robot.oddities import Oddities
from pi05.data.robot.recent_looks import RecentLooks
from pi05.errors import CheckpointError, visible
from pi05.model.config import ModelConfig, usual_steps
from pi05.model.flow import Steer
from pi05.model.inference import Precision, set_up_inference, steer_first
from pi05.model.pi05 import Pi05
from pi05.prepared import Prepared, prepare

logger = logging.getLogger(__name__)


class Policy:
    """A network with the processors that it was trained with."""

    def __init__(
        self,
        model: Pi05,
        processor: Processor,
        *,
        n_action_steps: int | None = None,
        provenance: dict[str, Any] | None = None,
        max_delay: int = 0,
    ) -> None:
        """Combine a network in memory with its processors; `provenance` says in reports where the weights are from."""
        self.model = model
        self.processor = processor
        self.max_delay = max_delay
        """Committed actions that the network was trained to continue are fewer than this (`--rtc_max_delay`)."""
        self.n_action_steps = n_action_steps or usual_steps(processor.horizon, processor.fps)
        self.provenance = provenance or {"path": "in memory"}
        self.strict = False
        """Whether a state outside of the training range, a picture that is turned or another camera's, and an
        instruction in other words are refused; else warned of once."""
        self.shapes: StaticShapes | None = None
        """Shapes that batches are padded to, where graphs were compiled for them; None: batches are as they come."""
        self.notes: list[str] = []
        """What was decided about a foreign folder that does not tell it."""
        self._oddities = Oddities()
        self._looks = RecentLooks()
        if self.n_action_steps > processor.horizon:
            raise CheckpointError(
                "the policy cannot execute more actions than it predicts at once",
                wanted=f"n_action_steps of at most {processor.horizon}, the horizon",
                found=str(self.n_action_steps),
                remedy="lower --policy.n_action_steps",
            )

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str = "cpu",
        *,
        base: str | Path | None = None,
        prompt_format: str | None = None,
        rename_map: Mapping[str, str] | None = None,
        asset_id: str | None = None,
        horizon: int | None = None,
        relative_mask: Sequence[bool] | None = None,
        adapt_to_pi: bool | None = None,
        tokenizer_path: str | Path | None = None,
        config: ModelConfig | None = None,
        accept_edited: Sequence[str] = (),
        precision: Precision | None = None,
        compile: bool = False,
    ) -> Policy:
        """Load a checkpoint folder, or the last checkpoint of a run folder: pi05's, LeRobot's or openpi's.

        pi05's own folder needs none of the options, unless its config.json was edited after training, which is refused
        for all fields that `accept_edited` does not name. `base`: the weights that an adapter sits on. `rename_map`:
        robot's camera → the policy's camera or slot. The others are for what a foreign folder does not tell:
        `prompt_format`, `tokenizer_path`, `config` (the network's sizes), and of openpi `asset_id` (which statistics),
        `horizon`, `relative_mask` and `adapt_to_pi` (whether its ALOHA transforms flip joints, which is refused).
        What is decided without being told is logged, and is in `notes`. Raises CheckpointError when the folder is not
        complete or does not tell enough.

        Without a `precision` weights are float32, and arithmetic is float32 on a CPU and bfloat16 on a GPU. `compile`
        is slow at first and faster afterwards (`model/inference.py`).
        """
        options = PolicyOptions(
            prompt_format=prompt_format,
            rename_map=rename_map,
            asset_id=asset_id,
            horizon=horizon,
            relative_mask=None if relative_mask is None else tuple(relative_mask),
            adapt_to_pi=adapt_to_pi,
            tokenizer_path=tokenizer_path,
            accept_edited=tuple(accept_edited),
        )
        policy = open_policy(locate(path), device, options=options, base=base, config=config).policy
        policy.only_infer(precision=precision, compile=compile)
        for note in policy.notes:
            logger.warning("%s: %s", path, note)
        return policy

    def only_infer(
        self, *, precision: Precision | None = None, compile: bool = False, max_batch: int | None = None
    ) -> None:
        """Make the network faster at what it still has to do; `load` has done it. Options are those of `load`.

        With `compile` and `max_batch`, batches of up to so many are padded to few shapes (`data/collate.py`), so
        that nothing is compiled any more once there was a batch of each.
        """
        set_up_inference(self.model, precision=precision, compile=compile)
        if compile and max_batch is not None:
            self.shapes = static_shapes(self.processor, max_batch)

    def __repr__(self) -> str:
        processor, parameter = self.processor, self.model.embedding.weight
        lines = [
            f"Policy {self.model.origin or self.provenance['path']}, on {parameter.device}",
            *processor.describe().splitlines(),
            f"state    {', '.join(processor.state_names) or 'names not told'}",
            f"actions  {', '.join(processor.action_names) or 'names not told'}",
            f"executed {self.n_action_steps} actions of a chunk",
            *((f"delays   trained for 0 to {self.max_delay - 1} control steps",) if self.max_delay else ()),
        ]
        return visible("\n  ".join(lines))

    @property
    def fps(self) -> float | None:
        """Control rate of the demonstrations, in Hz; None where a foreign checkpoint does not tell it."""
        return self.processor.fps

    @property
    def flagged(self) -> list[str]:
        """What was odd about observations so far, each once."""
        return self._oddities.told

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Shape of the noise behind one chunk: horizon, action dimensions of the network."""
        return self.processor.horizon, self.processor.action_dim

    def infer(self, observation: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Return {"actions": float32[A, n] in robot units, "timing": in milliseconds} for one observation.

        The observation holds one picture per camera under the data set's names, `observation.state` and `task`. Where
        the state was joined from several columns, these do as well, under their names; the actions are in the order of
        `processor.action_columns`. Options are those of `infer_batch`.
        """
        started = time.perf_counter()
        actions = self.infer_batch([observation], **options)[0]
        return {"actions": actions, "timing": {"total_ms": 1000 * (time.perf_counter() - started)}}

    def infer_batch(
        self,
        observations: Sequence[dict[str, Any]],
        noise: Float[Tensor, "B A X"] | None = None,
        num_steps: int = 10,
        generator: torch.Generator | None = None,
        steer: Steer | None = None,
        committed: tuple[Float[Tensor, "B A X"], Int64[Tensor, " B"]] | None = None,
    ) -> list[Float[np.ndarray, "A n"]]:
        """Return one action chunk in robot units per observation.

        Noise that is not given is drawn on the CPU, from `generator` or torch's own, so that a seed means the same on
        every device. `steer` and `committed` are those of `Pi05.sample_actions`; `serve/rtc.py` makes them. Raises
        DataError for an observation that `prepare` refuses, and rather than answering with actions that are not finite.
        """
        prepared = [self.prepare(observation) for observation in observations]
        if noise is None:
            noise = torch.randn((len(prepared), *self.noise_shape), generator=generator)
        return self.answer(prepared, noise, num_steps, steer, committed)

    def prepare(self, observation: Mapping[str, Any], looks: RecentLooks | None = None) -> Prepared:
        """Check one observation and return the network's inputs.

        Pictures are judged together with the `looks` before them; where none are given, these are all that the policy
        was asked, which is right for one robot and for a simulator. Raises DataError for a missing, unknown or wrong
        picture, a missing or wrong state, no task; where the policy is `strict`, for a state outside of the training
        range, a picture that is turned, another camera's or has its colours exchanged, and an instruction in other
        words, too.
        """
        looks = self._looks if looks is None else looks
        return prepare(self.processor, observation, looks, self._oddities, strict=self.strict)

    def answer(
        self,
        prepared: Sequence[Prepared],
        noise: Float[Tensor, "B A X"],
        num_steps: int = 10,
        steer: Steer | None = None,
        committed: tuple[Float[Tensor, "B A X"], Int64[Tensor, " B"]] | None = None,
    ) -> list[Float[np.ndarray, "A n"]]:
        """Return one action chunk in robot units for each prepared observation. Raises DataError as `infer_batch`."""
        inputs = [one.inputs for one in prepared]
        if self.shapes is None:
            batch = collate(inputs)
        else:
            rows = self.shapes.rows(len(inputs))
            batch, noise = self.shapes.collate([inputs[row] for row in rows]), noise[rows]
            committed = None if committed is None else (committed[0][rows], committed[1][rows])
            steer = None if steer is None else steer_first(steer, len(inputs), rows)
        device = next(self.model.parameters()).device
        with torch.no_grad():  # not `inference_mode`: steering may go back through the network
            chunks = self.model.sample_actions(
                batch.to(device), noise=noise.to(device), num_steps=num_steps, steer=steer, committed=committed
            )
        arrays = chunks[: len(inputs)].float().cpu().numpy()
        answers = [self.processor.decode_actions(chunk, one.state) for chunk, one in zip(arrays, prepared, strict=True)]
        for answer in answers:
            require_finite_actions(answer, self.processor.action_names)
        return answers


@dataclass(frozen=True, kw_only=True)
class OpenedPolicy:
    """A policy out of a folder, and what was read there."""

    policy: Policy
    receipt: Receipt
    location: Location


def open_policy(
    location: Location,
    device: str = "cpu",
    *,
    options: PolicyOptions | None = None,
    base: str | Path | None = None,
    config: ModelConfig | None = None,
    merge: bool = True,
) -> OpenedPolicy:
    """Load the policy of a located checkpoint, whoever wrote it: for inference, evaluation and export.

    Weights are float32; compute is float32 on a CPU and bfloat16 on a GPU. `options`, `base` and `config` are what the
    folder does not tell; an adapter stays unmerged with `merge=False`. Raises CheckpointError when the folder is not
    complete or does not tell enough, before any weight is read.
    """
    source, sizes, found = read_transforms(location, options=options, base=base, config=config)
    processor = source.processor
    sizes = replace(sizes, horizon=processor.horizon, max_prompt_tokens=processor.max_prompt_tokens)
    compute_dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
    model, receipt = read_model(location, device, torch.float32, sizes, compute_dtype, base=found, merge=merge)
    provenance: dict[str, Any] = {"path": str(location.given), "checkpoint": str(location.folder)}
    if location.kind == "pi05":
        stored = read_checkpoint_config(location.folder)
        provenance |= {key: stored[key] for key in ("step", "base", "pi05_version") if stored.get(key) is not None}
    else:
        provenance |= {"layout": receipt.layout, "sha256": receipt.sha256, "notes": list(source.notes)}
        provenance |= {"prompt_format": processor.prompt_format, "resize": processor.resize}
    model.origin = tell_origin(location)
    policy = Policy(
        model.eval(),
        processor,
        n_action_steps=source.n_action_steps,
        provenance=provenance,
        max_delay=source.max_delay,
    )
    policy.notes = source.notes
    return OpenedPolicy(policy=policy, receipt=receipt, location=location)
