"""`pi05 eval`: how often does a policy succeed in a simulator?"""

from __future__ import annotations

from collections.abc import Sequence

from pi05.commands.command import OFFLINE, Command, read_settings
from pi05.errors import ConfigError, EvaluationError, doing
from pi05.eval.config import EvalConfig


def evaluate(arguments: Sequence[str]) -> int:
    """Run `pi05 eval`."""
    config = read_settings(EvalConfig, arguments)
    if config.policy.path is None:
        raise ConfigError("pi05 eval needs a policy", wanted="--policy.path=RUN", remedy="name a run or a checkpoint")
    from pi05.eval.evaluate import evaluate_policy

    with doing("evaluate", config.policy.path, EvaluationError):
        evaluate_policy(config)
    return 0


COMMAND = Command(
    summary="Success rate of a policy in a simulator, as a report with pictures.",
    usage="pi05 eval --policy.path=RUN --env=tabletop --episodes=50 [flags]",
    run=evaluate,
    settings=EvalConfig,
    extra=(OFFLINE,),
)
