"""`pi05 eval`: how often does a policy succeed in a simulator, or what does it do in recorded episodes?"""

from __future__ import annotations

from collections.abc import Sequence

from pi05.commands.command import OFFLINE, Command, read_words
from pi05.errors import ConfigError, EvaluationError, doing, tell
from pi05.eval.config import EvalConfig


def evaluate(arguments: Sequence[str]) -> int:
    """Run `pi05 eval`."""
    config, words = read_words(EvalConfig, arguments)
    if config.dataset.place is not None:
        return evaluate_recordings(config, words)
    if config.compare is not None:
        return compare(config, words)
    if words:
        raise ConfigError(f"'{words[0]}' is no flag", remedy="write settings as --name=value")
    if config.policy.path is None:
        raise ConfigError("pi05 eval needs a policy", wanted="--policy.path=RUN", remedy="name a run or a checkpoint")
    from pi05.eval.evaluate import evaluate_policy

    with doing("evaluate", config.policy.path, EvaluationError):
        evaluate_policy(config)
    return 0


def evaluate_recordings(config: EvalConfig, words: Sequence[str]) -> int:
    """Evaluate one policy, or several over the same episodes; the further ones stand behind the flag's value."""
    if config.compare is None and words:
        raise ConfigError(f"'{words[0]}' is no flag", remedy="write settings as --name=value")
    named = config.compare or config.policy.path
    if named is None or (config.compare is not None and not words):
        raise ConfigError(
            "pi05 eval needs a policy",
            wanted="--policy.path=RUN, or --compare RUN RUN …",
            remedy="name a run or a checkpoint; to compare, at least two",
        )
    from pi05.eval.open_loop.evaluate import evaluate_open_loop

    with doing("evaluate", named, EvaluationError):
        evaluate_open_loop(config, [named, *words])
    return 0


def compare(config: EvalConfig, words: Sequence[str]) -> int:
    """Compare two policies, or two evaluations; the second one stands behind the flag's value."""
    if len(words) != 1 or config.compare is None:
        raise ConfigError(
            "--compare takes two",
            wanted="--compare A B",
            found=" ".join(["--compare", config.compare or "", *words]),
            remedy="name two policies, or two folders that pi05 eval has written",
        )
    from pi05.eval.compare import compare_policies

    with doing("compare", None, EvaluationError):
        comparison = compare_policies(config, config.compare, words[0])
    if comparison is not None:
        tell(comparison.render())
    return 0


COMMAND = Command(
    summary="How well a policy does in a simulator, or in recorded episodes.",
    usage="pi05 eval --policy.path=RUN --env=tabletop --episodes=50 [flags]\n"
    "       pi05 eval --policy.path=RUN --dataset.root=DATA [flags]\n"
    "       pi05 eval --compare A B [flags]",
    run=evaluate,
    settings=EvalConfig,
    extra=(OFFLINE,),
)
