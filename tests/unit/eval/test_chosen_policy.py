from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import pytest
from fake_policies import make_policy

from pi05.errors import CheckpointError, EvaluationError
from pi05.eval.chosen_policy import load_policy, require_fit
from pi05.eval.config import EvalConfig
from pi05.eval.places.place import facts_of
from pi05.policy_choice import ChosenPolicy
from pi05.sim.tabletop import Tabletop
from pi05.train.config import TINY_BASE

TABLE = facts_of(Tabletop("demo"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


def test_a_policy_of_the_same_robot_fits(tokenizer: Path) -> None:
    require_fit(make_policy(tokenizer), TABLE, None)
    require_fit(make_policy(tokenizer), TABLE, make_policy(tokenizer).processor.horizon)
    require_fit(make_policy(tokenizer, fps=10.4), TABLE, None)


def test_another_rate_robot_camera_or_horizon_does_not(tokenizer: Path) -> None:
    policy = make_policy(tokenizer)

    def refused(match: str, n_action_steps: int | None = None, **changes: Any) -> None:
        with pytest.raises(EvaluationError, match=match):
            require_fit(make_policy(tokenizer, **changes), TABLE, n_action_steps)

    refused("another control rate", fps=10.6)
    refused("does not predict as many", n_action_steps=policy.processor.horizon + 1)
    stats = policy.processor.action_stats
    two = replace(stats, **{name: getattr(stats, name)[:2] for name in ("mean", "std", "min", "max", "q01", "q99")})
    refused("another robot", action_stats=two)
    refused("other cameras", slots=replace(policy.processor.slots, scene="observation.images.front"))
    refused("other cameras", slots=replace(policy.processor.slots, left_wrist=None))


def test_each_process_of_a_machine_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def choose(name: str, index: int) -> str:
        asked.append((name, index))
        return "cpu"

    monkeypatch.setattr("pi05.eval.chosen_policy.choose_device", choose)
    monkeypatch.setenv("LOCAL_RANK", "3")
    load_policy(EvalConfig(policy=ChosenPolicy(path=str(TINY_BASE))))
    assert asked == [("auto", 3)]


def test_an_evaluation_needs_a_policy() -> None:
    with pytest.raises(EvaluationError, match="no policy is named"):
        load_policy(EvalConfig())


def test_what_is_told_of_aloha_reaches_the_policy() -> None:
    config = EvalConfig(policy=ChosenPolicy(path=str(TINY_BASE), device="cpu"), adapt_to_pi=False)
    with pytest.raises(CheckpointError, match="adapt_to_pi cannot be told here"):
        load_policy(config)


def test_the_label_of_liberos_sets_can_be_allowed(tokenizer: Path) -> None:
    twenty = replace(TABLE, fps=20.0)
    with pytest.raises(EvaluationError, match="--allow=control-rate"):
        require_fit(make_policy(tokenizer, fps=10.0), twenty, None)
    require_fit(make_policy(tokenizer, fps=10.0), twenty, None, ("control-rate",))


def test_a_libero_policy_may_call_its_cameras_otherwise(tmp_path: Path) -> None:
    """The packaged policy has a scene and a wrist, under the table top's names."""
    own = load_policy(EvalConfig(policy=ChosenPolicy(path=str(TINY_BASE), device="cpu")))
    libero = load_policy(
        EvalConfig(policy=ChosenPolicy(path=str(TINY_BASE), device="cpu"), env="libero", suite="libero_object")
    )
    assert own.processor.slots.used == libero.processor.slots.used == ("scene", "left_wrist")
    assert own.processor.slots.keys == ("observation.images.scene", "observation.images.wrist")
    assert libero.processor.slots.keys == ("observation.images.image", "observation.images.image2")
    assert libero.notes[-1].startswith("cameras: observation.images.scene is LIBERO's observation.images.image,")
