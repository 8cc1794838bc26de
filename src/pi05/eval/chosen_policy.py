"""The policy that an evaluation is about: loaded with its options, and checked against the environment.

A policy of another robot, another control rate or other cameras would only show as failed episodes.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace

from pi05.data.cameras import CameraSlots
from pi05.data.libero import SLOTS as LIBERO_SLOTS
from pi05.data.robot.control_rate import same_rate
from pi05.errors import EvaluationError, tell
from pi05.eval.company import local_rank
from pi05.eval.config import EvalConfig
from pi05.eval.places.place import EnvironmentFacts
from pi05.machine import choose_device
from pi05.policy import Policy
from pi05.sim.libero.config import CONTROL_RATE


def load_policy(config: EvalConfig) -> Policy:
    """Load the policy of an evaluation, with what its folder does not tell."""
    if config.policy.path is None:
        raise EvaluationError("no policy is named", remedy="add --policy.path=RUN, or a checkpoint folder")
    policy = Policy.load(
        config.policy.path,
        device=str(choose_device(config.policy.device, local_rank())),
        **config.told,
    )
    slots = policy.processor.slots
    if config.env == "libero" and not config.rename_map and slots.used == LIBERO_USED and slots.keys != LIBERO_KEYS:
        # A policy of LIBERO under openpi's names, or another converter's: one scene, one wrist, and so has LIBERO.
        renamed = CameraSlots(**dict(zip(LIBERO_USED, LIBERO_KEYS, strict=True)), dropped=slots.dropped)
        policy.processor = replace(policy.processor, slots=renamed)
        told = ", ".join(f"{key} is LIBERO's {own}" for key, own in zip(slots.keys, LIBERO_KEYS, strict=True))
        policy.notes.append(f"cameras: {told}")
        tell(f"note: {policy.notes[-1]}", aside=True)
    return policy


LIBERO_KEYS, LIBERO_USED = tuple(LIBERO_SLOTS), tuple(LIBERO_SLOTS.values())


def require_fit(
    policy: Policy, environment: EnvironmentFacts, n_action_steps: int | None, allow: Collection[str] = ()
) -> None:
    """Refuse what would only show as failures: other cameras or action dimensions, another control rate.

    `allow` may hold `control-rate`, for policies whose data set tells a wrong rate, as LIBERO's own sets do.
    """
    require_predicted(n_action_steps, policy.processor.horizon)
    names = len(environment.action_names)
    if policy.processor.robot_action_dim != names:
        raise EvaluationError(
            "the policy moves another robot than this environment has",
            wanted=f"{names} action dimensions: {', '.join(environment.action_names)}",
            found=f"{policy.processor.robot_action_dim} action dimensions",
            remedy="evaluate it in the environment that its data came from",
        )
    if policy.fps is not None and not same_rate(policy.fps, environment.fps) and CONTROL_RATE not in allow:
        raise EvaluationError(
            "the policy was trained at another control rate than this environment runs at",
            wanted=f"{environment.fps:g} Hz, within 5 %",
            found=f"{policy.fps:g} Hz",
            remedy="record or resample the demonstrations at the environment's rate"
            + f"; LIBERO's own data sets say 10 Hz and are at 20 Hz: --allow={CONTROL_RATE}" * (policy.fps == 10),
        )
    _require_cameras(policy, environment)


def require_predicted(n_action_steps: int | None, horizon: int) -> None:
    """Raise EvaluationError where more actions of a chunk shall be executed than the policy predicts."""
    if n_action_steps is not None and n_action_steps > horizon:
        raise EvaluationError(
            "the policy does not predict as many actions as shall be executed",
            wanted=f"--policy.n_action_steps of at most {horizon}, its horizon",
            found=str(n_action_steps),
            remedy="lower --policy.n_action_steps",
        )


def _require_cameras(policy: Policy, environment: EnvironmentFacts) -> None:
    sent = list(environment.cameras)
    slots = policy.processor.slots
    if set(slots.keys) - set(sent) or set(sent) - set(slots.keys) - set(slots.dropped):
        pairs = dict(zip(sent, slots.used, strict=False))
        raise EvaluationError(
            "the policy sees other cameras than this environment has",
            wanted=f"{', '.join(sent)}, which the environment has",
            found=f"{', '.join(slots.keys)}, which the policy wants",
            remedy=f"say which is which, for example --rename_map '{json.dumps(pairs, ensure_ascii=False)}'",
        )
