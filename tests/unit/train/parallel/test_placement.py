"""How a run's processes come to their network: what passes through host memory does so in turns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pi05.model.config import tiny
from pi05.train.config import TrainConfig
from pi05.train.lora_config import PeftConfig
from pi05.train.parallel import placement
from pi05.train.parallel.ranks import Ranks
from pi05.train.policy_config import PolicyConfig
from pi05.train.resume import OpenRun

T = TypeVar("T")


class InTurns(Ranks):
    """One process that notes what it was asked to do in its turn."""

    turns: int = 0

    def one_by_one(self, work: Callable[[], T]) -> T:
        """Do it, and count it."""
        self.turns += 1
        return work()


@pytest.mark.parametrize(
    ("settings", "turns"),
    [
        ({}, 0),
        ({"precision": "bf16-sr"}, 1),
        ({"policy": PolicyConfig(use_peft=True)}, 1),
        ({"policy": PolicyConfig(use_peft=True), "peft": PeftConfig(quantize="nf4")}, 1),
    ],
    ids=["full", "bf16-sr", "lora", "qlora"],
)
def test_what_is_rounded_on_the_host_is_read_by_one_process_after_the_other(
    settings: dict[str, Any], turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At full size each would take 13 GB of it; full fine-tuning reads onto the GPU, all at once."""
    config = TrainConfig(**settings)
    monkeypatch.setattr(placement, "_build", lambda config, sizes, *_: placement.outline(config, sizes))
    ranks = InTurns()
    placed = placement.place_network(config, tiny(), OpenRun(root=Path("nowhere")), ranks)
    assert ranks.turns == turns
    assert placed.whole is placed.network
    assert placed.parameters
