"""What the simulator knows and the base `pi05-tiny` is taught in words and places, besides acting.

π₀.₅ starts from a vision-language model that has seen billions of labelled pictures; a network of two million
parameters that starts from nothing has to get its eyes somewhere. Through the noise of flow matching alone it had not
localised anything after 32,000 samples. So the pre-training adds labels that a table-top picture has for free: which
object a patch shows and where its centre is, which patches the instruction means, and where the named things are. The
heads that read these answers are thrown away afterwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi05.model.gemma import normalize_rms
from pi05.model.layers import Linear
from pi05.model.pi05 import Pi05
from pi05.sim.experts import TabletopExpert
from pi05.sim.tabletop import ITEM_RADIUS, TABLE_HALF, TARGET_RADIUS, WRIST_HALF, Tabletop
from pi05.sim.tabletop_tasks import FAMILIES

BASE = FAMILIES["base"]
SHAPES = (*BASE.items, *BASE.targets)
KINDS = 1 + len(BASE.colours) * len(SHAPES)  # 0: table
ROLES = 3  # 0: neither, 1: the named item, 2: where it shall go
POINTS = 4  # x, y of the named item; x, y of where it shall go
COVERS = 1.25  # a patch shows an object when the centres are closer than this many radii


def label(env: Tabletop, expert: TabletopExpert, grid: int) -> np.ndarray:
    """Return what is to be known of both pictures: kind, offset and role of each patch, and the two named points."""
    scene = _label_view(env, np.zeros(2), TABLE_HALF, grid)
    wrist = _label_view(env, env.position, WRIST_HALF, grid)
    item = env.items[env.goal.item]
    points = np.array([item.x, item.y, *expert.destination()]) / TABLE_HALF
    return np.concatenate([scene, wrist, points]).astype(np.float32)


def _label_view(env: Tabletop, centre: np.ndarray, half: float, grid: int) -> np.ndarray:
    things = [*env.items, *env.targets]
    radii = np.array([ITEM_RADIUS] * len(env.items) + [TARGET_RADIUS] * len(env.targets))
    kinds = np.array([1 + BASE.colours.index(t.colour) * len(SHAPES) + SHAPES.index(t.shape) for t in things])
    roles = np.zeros(len(things))
    roles[env.goal.item] = 1
    if env.goal.target is not None:
        roles[len(env.items) + env.goal.target] = 2
    side = 2 * half / grid
    ticks = (np.arange(grid) + 0.5) * side - half
    rows, columns = np.meshgrid(-ticks, ticks, indexing="ij")
    patches = np.stack([columns.ravel(), rows.ravel()], axis=1) + centre
    away = np.array([[thing.x, thing.y] for thing in things])[None] - patches[:, None]
    distance = np.hypot(away[..., 0], away[..., 1]) / radii
    nearest = distance.argmin(axis=1)
    patch = np.arange(len(patches))
    shown = distance[patch, nearest] < np.maximum(COVERS, 0.6 * side / radii[nearest])
    offset = np.where(shown[:, None], away[patch, nearest] / side, 0.0)
    parts = [np.where(shown, kinds[nearest], 0), np.where(shown, roles[nearest], 0), offset[:, 0], offset[:, 1]]
    return np.concatenate(parts)


class Teacher(nn.Module):
    """Reads a network's inner streams and says how far they are from what should be known there."""

    def __init__(self, model: Pi05) -> None:
        super().__init__()
        width = model.config.language_width
        self.patches = model.config.patches_per_image
        self.kind_and_offset = Linear(width, KINDS + 2)
        self.role = Linear(width, ROLES)
        self.points = Linear(width, POINTS)
        self._kept: dict[str, Tensor] = {}
        model.vision.register_forward_hook(self._keep_vision)
        model.language.layers[-2].register_forward_hook(self._keep_language)

    def _keep_vision(self, _module: Any, _inputs: Any, output: Tensor) -> None:
        self._kept["vision"] = output

    def _keep_language(self, _module: Any, _inputs: Any, output: Any) -> None:
        self._kept["language"] = output[0]

    def losses(self, labels: Tensor, prompt_lengths: Tensor) -> dict[str, Tensor]:
        """Return the three losses for the batch that the network has just seen."""
        batch, patches = len(labels), self.patches
        views = labels[:, :-POINTS].view(batch, 2, 4, patches)
        kind, role, offset = views[:, :, 0].long(), views[:, :, 1].long(), views[:, :, 2:].transpose(2, 3)
        seen = self.kind_and_offset(normalize_rms(self._kept["vision"])).view(batch, 2, patches, -1)
        shown = (kind > 0)[..., None]
        off = ((seen[..., KINDS:] - offset).square() * shown).sum() / shown.sum().clamp(min=1) / 2
        stream = normalize_rms(self._kept["language"])
        meant = self.role(stream[:, : 2 * patches]).view(batch, 2, patches, -1)
        last = stream[torch.arange(batch), 2 * patches - 1 + prompt_lengths]
        return {
            "kind": F.cross_entropy(seen[..., :KINDS].flatten(0, 2), kind.flatten()),
            "offset": off,
            "role": F.cross_entropy(meant.flatten(0, 2), role.flatten()),
            "points": (self.points(last) - labels[:, -POINTS:]).square().mean(),
        }
