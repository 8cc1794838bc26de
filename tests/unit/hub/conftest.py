"""A hub on localhost, a login there, and waits that are counted instead of waited."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import TOKEN, FakeHub, Waits
from huggingface_hub import constants


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    found = Waits()
    monkeypatch.setattr("huggingface_hub.utils._http.time", types.SimpleNamespace(sleep=found.client.append))
    return found


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """Serve a hub where `ada` is logged in."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path_factory.mktemp("home") / "token"))
    with FakeHub() as server:
        yield server


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Return a folder of files as a policy has them, with weights large enough to be cut in the middle."""
    folder = tmp_path / "policy"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 12_000)
    (folder / "policy_preprocessor_step_3_normalizer_processor.safetensors").write_bytes(b"statistics" * 40)
    (folder / "config.json").write_text('{"type": "pi05"}')
    (folder / "policy_preprocessor.json").write_text("{}")
    (folder / "tokenizer.json").write_text('{"model": "π"}')
    (folder / "tokenizer" / "tokenizer.json").write_text('{"model": "π"}')
    (folder / "README.md").write_text("---\nlanguage: [en, zh]\n---\n# A policy\n")
    return folder
