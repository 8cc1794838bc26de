"""Does the base know these pictures better turned, mirrored, or with red and blue exchanged?

A base has seen pictures that stand upright. Where it predicts the recorded actions clearly better from one camera's
pictures when they are turned, they were probably recorded, or converted, turned. This needs no run of ours that knows
the camera (`pictures/beside_base.py` does), only a base that knows something of the scene; of others it says nothing:
their loss hardly depends on the pictures. Each frame is compared with itself, with the same noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from pi05.finding import Finding, warning
from pi05.model.flow import interpolate
from pi05.model.pi05 import Pi05
from pi05.types import Batch

FRAMES = 192
"""Frames that decide, where a few have raised the suspicion."""
TIMES = 2
"""Flow times that a frame's loss is averaged over, spread evenly."""
SUSPECT = 0.5
"""Standard errors that the saving on a few frames has to be away from none, for more of them to be looked at; and the
share of `GAIN` that it has to reach. A base that does not know the scene stays below it."""
GAIN = 0.025
"""Share of the loss that a turn has to save. Upright pictures of four sound sets: none saves anything; the same upside
down: 17 % with objects, 3.1 % with a robot and 1.7 % with a real arm that the packaged base does not know."""
GAIN_OF_COLOURS = 0.2
"""The same of red and blue exchanged: objects in colours that the base does not know may look like known ones then. On
the packaged base, blue and red objects that are new to it: 7 %; known ones with colours exchanged: 80 %."""
CERTAIN = 4.0
"""Standard errors that the saving has to be away from none."""
MOST = 0.6
"""Share of the frames that have to be better off."""
COLOURS = (4,)
UNDONE = {
    "upside down": (2, 3),
    "mirrored left to right": (3,),
    "mirrored top to bottom": (2,),
    "with red and blue exchanged": COLOURS,
}
"""How pictures may stand, and the axes of a batch's pictures whose reversal sets them right."""


@dataclass(frozen=True, kw_only=True)
class TurnEffect:
    """What turning one camera's pictures does to a network's loss."""

    camera: str
    turn: str
    loss: float
    """Mean flow-matching loss of the pictures as they are."""
    turned: float
    """The same of the turned pictures."""
    errors: float
    """How many standard errors the saving lies above none."""
    better: float
    """Share of the frames whose loss is smaller with turned pictures."""

    @property
    def saved(self) -> float:
        """Share of the loss that the turn saves, over what it has to save."""
        needed = GAIN_OF_COLOURS if UNDONE[self.turn] == COLOURS else GAIN
        return (self.loss - self.turned) / max(self.loss, 1e-30) / needed

    @property
    def suspect(self) -> bool:
        """Whether more frames should be looked at."""
        return self.errors > SUSPECT and self.saved > SUSPECT

    @property
    def tells(self) -> bool:
        """Whether the turned pictures are clearly the better ones."""
        return self.saved > 1 and self.errors > CERTAIN and self.better > MOST


def look_at_turns(
    model: Pi05,
    few: Sequence[Batch],
    many: Callable[[], Sequence[Batch]],
    cameras: Sequence[str],
    *,
    action_dims: int,
) -> list[Finding]:
    """Return the cameras whose pictures a network knows better otherwise; most sets are done with after a `few` frames.

    `many`, `FRAMES` of them, are fetched where these raise a suspicion. See `measure_turns`.
    """
    suspects = [effect for effect in measure_turns(model, few, cameras, action_dims=action_dims) if effect.suspect]
    if not suspects:
        return []
    batches = many()
    frames = sum(len(batch.tokens) for batch in batches)
    return list(judge_turns(measure_turns(model, batches, cameras, action_dims=action_dims, only=suspects), frames))


@torch.no_grad()
def measure_turns(
    model: Pi05,
    batches: Sequence[Batch],
    cameras: Sequence[str],
    *,
    action_dims: int,
    only: Sequence[TurnEffect] | None = None,
    seed: int = 0,
) -> list[TurnEffect]:
    """Run real frames with actions through a network: once as they are, and once for each camera and turn.

    `cameras` names the pictures of a batch, in their order; `action_dims` are the robot's own dimensions. `only` are
    the cameras and turns of an earlier measurement that are worth another one. The batches lie on the network's device.
    Random numbers of the caller are left alone.
    """
    effects = []
    asked = None if only is None else {(effect.camera, effect.turn) for effect in only}
    usual = _losses(model, batches, action_dims, seed)
    for place, camera in enumerate(cameras):
        shown = torch.cat([_shown(batch, place) for batch in batches])
        if int(shown.sum()) < 2:
            continue
        for turn, axes in UNDONE.items():
            if asked is not None and (camera, turn) not in asked:
                continue
            turned = [replace(batch, images=_turned(batch.images, place, axes)) for batch in batches]
            before, after = usual[shown], _losses(model, turned, action_dims, seed)[shown]
            saved = before - after
            spread = float(saved.std()) / math.sqrt(len(saved))
            effect = TurnEffect(
                camera=camera,
                turn=turn,
                loss=float(before.mean()),
                turned=float(after.mean()),
                errors=float(saved.mean()) / spread if spread > 0 else 0.0,
                better=float((saved > 0).double().mean()),
            )
            effects.append(effect)
    return effects


def judge_turns(effects: Sequence[TurnEffect], frames: int) -> Iterator[Finding]:
    """Yield the cameras whose pictures the base knows better otherwise, each with the turn that saves most."""
    for camera in dict.fromkeys(effect.camera for effect in effects):
        telling = [effect for effect in effects if effect.camera == camera and effect.tells]
        if not telling:
            continue
        best = min(telling, key=lambda effect: effect.turned)
        yield warning(
            "base.knows_turned_pictures",
            f"{camera}: on {frames} frames the base predicts the recorded actions better when its pictures are taken "
            f"for {best.turn} and set right: loss {best.turned:.3g} in the place of {best.loss:.3g}, better in "
            f"{best.better:.0%} of the frames",
            "learns anew what the base has seen, from pictures that probably stand otherwise than it saw them",
            "look at the camera's pictures on the page of pi05 check; set them right in the data and on the robot",
            {"camera": camera, "turn": best.turn, "loss": best.loss, "turned": best.turned, "errors": best.errors},
        )


def _losses(model: Pi05, batches: Sequence[Batch], dims: int, seed: int) -> Float[Tensor, " N"]:
    """Return each frame's loss over several flow times, with the same noise at every call."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for batch in batches:
        batch = batch.trim()
        if batch.actions is None:
            raise ValueError("the measures need batches with actions")
        actions = batch.actions.float()
        tokens, valid = model.embed_prefix(batch)
        cache = model.prefill(tokens, valid)
        weight = torch.ones(actions.shape[:2], device=actions.device)
        weight = weight if batch.action_mask is None else batch.action_mask.float()
        sums = torch.zeros(len(actions), device=actions.device)
        for index in range(TIMES):
            noise = torch.randn(actions.shape, generator=generator).to(actions.device)
            time = torch.full((len(actions),), (index + 0.5) / TIMES, device=actions.device)
            x_t, u_t = interpolate(actions, noise, time)
            squares = (model.velocity(x_t, time, cache, valid) - u_t).square()[..., :dims].mean(dim=-1)
            sums += (squares * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        found.append(sums.double().cpu() / TIMES)
    return torch.cat(found)


def _shown(batch: Batch, place: int) -> Bool[Tensor, " B"]:
    if batch.image_mask is None:
        return torch.ones(len(batch.images), dtype=torch.bool)
    return batch.image_mask[:, place].cpu()


def _turned(images: Shaped[Tensor, "B C H W 3"], place: int, axes: tuple[int, ...]) -> Shaped[Tensor, "B C H W 3"]:
    turned = images.clone()
    turned[:, place : place + 1] = images[:, place : place + 1].flip(axes)
    return turned
