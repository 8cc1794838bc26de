"""`--cache_prefix`: the losses of a run without it, vision and language not run, and refusals where it cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from pi05.commands.train import read_command
from pi05.errors import ConfigError, DataError
from pi05.model.gemma import Language
from pi05.train.loop import train

TOLERANCE = 2e-6
"""Relative, on losses: a frame's prefix is computed beside other frames, where batches have other sizes and padding, so
products may be summed in another order. The same batch gives the same bits (unit/train/test_cached_prefix.py)."""


def run(workshop: Any, folder: Path, **settings: object) -> list[float]:
    """Train the expert on a base with the given settings; return the losses of all steps."""
    flags = workshop.flags(folder, log_freq=1, batch_size=6, steps=5, augment=False, eval_steps=0, **settings)
    flags.append("--policy.train_expert_only=true")
    train(read_command(flags).config, console=False)
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [record["loss"] for record in lines if record["type"] == "train"]


def prefix_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*-prefix-*.npy"))


@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_losses_are_those_without_it(workshop: Any, tmp_path: Path, precision: str) -> None:
    settings = {"precision": precision, "dataset__cache_dir": tmp_path / "cache", "num_workers": 2}
    without = run(workshop, tmp_path / "without", **settings)
    cached = run(workshop, tmp_path / "cached", cache_prefix=True, **settings)
    assert cached == pytest.approx(without, rel=TOLERANCE if precision == "float32" else 1e-2)
    assert len(prefix_files(tmp_path / "cache")) == 1
    again = run(workshop, tmp_path / "again", cache_prefix=True, **settings)
    assert again == cached, "the file is used again, and the run is the same to the bit"
    assert (tmp_path / "cached" / "step0" / "prompts.json").exists()


def test_the_prefix_is_not_run_again(workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    forward = Language.forward

    def counting(self: Language, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return forward(self, *arguments)

    monkeypatch.setattr(Language, "forward", counting)
    settings = {"dataset__cache_dir": tmp_path / "cache", "cache_prefix": True}
    run(workshop, tmp_path / "first", **settings)
    assert calls > 0
    calls = 0
    run(workshop, tmp_path / "second", **settings)
    assert calls == 0


def test_other_weights_get_a_file_of_their_own(workshop: Any, tmp_path: Path) -> None:
    settings = {"dataset__cache_dir": tmp_path / "cache", "cache_prefix": True}
    run(workshop, tmp_path / "one", **settings)
    run(workshop, tmp_path / "other", seed=7, **settings)
    assert len(prefix_files(tmp_path / "cache")) == 2


def test_resumed_runs_go_on_exactly(workshop: Any, tmp_path: Path) -> None:
    settings = {"dataset__cache_dir": tmp_path / "cache", "cache_prefix": True, "save_freq": 2}
    whole = run(workshop, tmp_path / "whole", **settings)
    interrupted = tmp_path / "interrupted"
    run(workshop, interrupted, **settings)
    for name in ("000005", "000004"):
        shutil.rmtree(interrupted / "checkpoints" / name)
    train(read_command(["--resume", str(interrupted)]).config, console=False)
    lines = map(json.loads, (interrupted / "metrics.jsonl").read_text().splitlines())
    assert [record["loss"] for record in lines if record["type"] == "train"] == whole


def test_the_size_is_told_before_and_a_small_disk_is_refused(
    workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"dataset__cache_dir": tmp_path / "cache"}
    run(workshop, tmp_path / "without", **settings)
    flags = workshop.flags(tmp_path / "full", steps=2, augment=False, cache_prefix=True, **settings)
    flags.append("--policy.train_expert_only=true")

    class Usage(NamedTuple):
        total: int = 10**9
        used: int = 10**9
        free: int = 10_000

    shutil_usage = shutil.disk_usage
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: Usage() if Path(path).name == "cache" else shutil_usage(path)
    )
    with pytest.raises(DataError, match="no room on the disk for the cached prefixes"):
        train(read_command(flags).config)
    assert "a frame); it may be deleted" in " ".join(capsys.readouterr().out.split())
    assert not list((tmp_path / "cache").glob(".*tmp"))


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--cache_prefix", "--augment=false"], "add --policy.train_expert_only"),
        (["--cache_prefix", "--policy.train_expert_only"], "add --augment=false"),
    ],
)
def test_it_is_refused_where_it_cannot_be(workshop: Any, tmp_path: Path, flags: list[str], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_command([*workshop.flags(tmp_path / "run"), *flags])
    assert reason in str(caught.value)


def test_bfloat16_comes_back_as_it_was(tmp_path: Path) -> None:
    import numpy as np

    from pi05.data.prefix_cache import PrefixCache, write_prefixes

    shape, frames = (3, 2, 2, 1, 9, 4), np.array([7, 2, 5])
    values = torch.randn(shape).to(torch.bfloat16)
    write_prefixes(tmp_path / "p.npy", shape, torch.bfloat16, [values[:2], values[2:, ..., :6, :]])
    found = PrefixCache(tmp_path / "p.npy", frames, torch.bfloat16).read(np.array([2, 7]), 8)
    assert torch.equal(found, values[[1, 0], ..., :8, :])
    shorter = PrefixCache(tmp_path / "p.npy", frames, torch.bfloat16).read(np.array([5]), 9)
    assert torch.equal(shorter[..., :6, :], values[2:, ..., :6, :])
    assert not shorter[..., 6:, :].any()
