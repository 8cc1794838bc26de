"""What a session does before its first step: it asks which kernels attention gets, says so, and takes packed keys."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from block_attention import WITH_GROUPS, block_attention
from small_network import CONFIG, make_model
from torch import Tensor

from pi05.data.loader import TrainLoader
from pi05.model.packed_keys import Varlen
from pi05.train.config import TrainConfig
from pi05.train.device import attention_probe
from pi05.train.device.kernels import PACKED_NAME
from pi05.train.parallel.ranks import Ranks
from pi05.train.session import Session, settle_attention


@pytest.fixture(autouse=True)
def _kernels_stay_on() -> Iterator[None]:
    yield
    for switch in attention_probe.SWITCHES.values():
        switch(True)


def settle(varlen: Varlen | None, monkeypatch: pytest.MonkeyPatch) -> tuple[Varlen | None, list[str], list[Any]]:
    """Return what the network packs with afterwards, what was told, and the cases that were looked at."""
    cases, told = list[Any](), list[str]()

    def look(given: Any, *rest: Any) -> Any:
        cases.extend(given)
        return attention_probe.probe_attention(given, *rest)

    monkeypatch.setattr("pi05.train.session.probe_attention", look)
    monkeypatch.setattr("pi05.train.session.why_no_varlen", lambda *_: None if varlen else "only GPUs have the kernel")
    monkeypatch.setattr("pi05.train.session.flash_varlen", lambda: varlen)
    model = make_model()
    model.varlen = WITH_GROUPS
    session, loader = Session.__new__(Session), TrainLoader.__new__(TrainLoader)
    vars(session).update(
        config=TrainConfig(batch_size=2, precision="mixed", flow_samples=3),
        state=SimpleNamespace(model=model, parallel=SimpleNamespace(ranks=Ranks())),
        data=SimpleNamespace(processor=SimpleNamespace(slots=SimpleNamespace(keys=["scene", "wrist"]))),
        device=torch.device("cpu"),
        sizes=CONFIG,
        tell=told.append,
    )
    vars(loader).update(_prompts=SimpleNamespace(shortest=5, longest=7), bucket=8)
    settle_attention(session, loader)
    return model.varlen, told, cases


def test_kernels_are_asked_for_at_the_run_s_own_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    packs, told, cases = settle(None, monkeypatch)
    assert packs is None
    (line,) = told
    assert line.startswith("attention: vision flash, language flash masked, expert flash masked; gradients within ")
    found = {case.tower: (case.batch, case.queries, case.keys, case.shortest) for case in cases}
    patches = CONFIG.patches_per_image
    keys, horizon = 2 * patches + 8, CONFIG.horizon
    assert found == {
        "vision": (4, patches, patches, patches),
        "language": (2, keys, keys, keys - 3),
        "expert": (6, horizon, keys + horizon, keys + horizon - 3),
    }


def test_packed_keys_are_taken_once_they_are_found_right(monkeypatch: pytest.MonkeyPatch) -> None:
    packs, told, _ = settle(WITH_GROUPS, monkeypatch)
    assert packs is WITH_GROUPS
    assert f"language {PACKED_NAME}, expert {PACKED_NAME}" in told[-1]


def test_packed_keys_that_are_wrong_leave_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: Any) -> Tensor:
        return 2 * block_attention(*arguments)

    packs, told, _ = settle(Varlen(wrong, grouped=True), monkeypatch)
    assert packs is None
    assert "keys are masked, not packed: " in told[-1]
