"""On a GPU: the real command from its flags to a checkpoint, and on from there, bit for bit with `--deterministic`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fakes
import pytest
import torch

from pi05.cli import main
from pi05.train.device.attention_probe import SWITCHES

pytestmark = pytest.mark.gpu
DEVICE = "auto"
MODES = {
    "mixed": ("--precision=mixed",),
    "8bit, release": ("--precision=bf16-sr", "--optimizer_state=8bit", "--gradient_release=true"),
    "offload": ("--precision=mixed", "--optimizer_offload=true"),
    "average": ("--precision=mixed", "--ema.enable=true", "--activation_checkpointing=selective"),
}


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    for switch in SWITCHES.values():
        switch(True)


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("workshop")
    fakes.write_dataset(folder / "data", episodes=(12, 9, 11, 8, 10, 13, 9, 12, 10, 8))
    tokenizer = fakes.write_tokenizer(folder / "tokenizer.json")
    return [
        *("--preset=tiny", "--from_scratch", "--batch_size=4", "--policy.optimizer_lr=1e-3"),
        *("--policy.scheduler_decay_steps=4", "--policy.scheduler_warmup_steps=1", "--log_freq=1"),
        *("--eval_steps=2", "--eval_frames=4", "--save_freq=2", "--deterministic", f"--policy.device={DEVICE}"),
        *(f"--policy.tokenizer_path={tokenizer}", f"--dataset.root={folder / 'data'}"),
        f"--dataset.cache_dir={folder / 'cache'}",
    ]


def measured(run: Path) -> list[tuple[int, float, float]]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(each["step"], each["loss"], each["grad_norm"]) for each in records if each["type"] == "train"]


@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_goes_on_is_the_run_without_a_break(
    mode: str, flags: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    words = ["train", *flags, *MODES[mode]]
    assert main([*words, "--steps=4", f"--output_dir={whole}"]) == 0
    told = capfd.readouterr().out
    assert f"compute: {'cpu' if DEVICE == 'cpu' else 'cuda:0'}" in told
    assert "attention: vision " in told
    assert "held out, step 4: action error " in told
    assert main([*words, "--steps=2", f"--output_dir={broken}"]) == 0
    assert main(["train", "--resume", str(broken), "--steps=4"]) == 0
    assert measured(broken) == measured(whole)
    assert [step for step, *_ in measured(whole)] == [1, 2, 3, 4]
    one, other = (run / "checkpoints" / "000004" / "model.safetensors" for run in (whole, broken))
    assert one.read_bytes() == other.read_bytes()
