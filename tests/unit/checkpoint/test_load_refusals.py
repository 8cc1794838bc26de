"""What does not fit is an error that says so."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from weight_folders import LAYOUTS, lerobot_folder, pi05_folder

from pi05.checkpoint.load import load_model
from pi05.errors import CheckpointError, UserError
from pi05.train.config import TINY_BASE

Spoil = Callable[[dict[str, torch.Tensor]], object]
SPOILED: dict[str, tuple[Spoil, str]] = {
    "missing": (lambda tensors: tensors.pop(last(tensors)), "1 missing: {last}"),
    "unexpected": (lambda tensors: tensors.update({"surplus.weight": torch.zeros(2)}), "1 unexpected: surplus.weight"),
    "misshaped": (lambda tensors: tensors.update({last(tensors): torch.zeros(3, 5)}), "{last} is [3, 5], not ["),
    "not finite": (lambda tensors: tensors[last(tensors)].fill_(float("nan")), "{last} is not finite"),
}


def last(tensors: dict[str, torch.Tensor]) -> str:
    """Return the tensor that is read last, so that a load which is not all-or-nothing would show."""
    return [name for name in tensors if "time" in name and "out" in name][-1]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fault", SPOILED)
def test_what_does_not_fit_is_refused(files, config, layout, fault):
    path = files[layout]
    if path.suffix == ".npz":
        with np.load(path) as archive:
            tensors = {name: torch.from_numpy(archive[name]) for name in archive.files}
    else:
        tensors = load_file(path)
    spoil, message = SPOILED[fault]
    expected = message.format(last=last(tensors))
    spoil(tensors)
    if path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})
    else:
        save_file(tensors, path)
    with pytest.raises(CheckpointError) as caught:
        load_model(path, config=config)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_truncated_file_is_refused(files, config, layout):
    path = files[layout]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged, cut short"):
        load_model(path, config=config)


def test_damage_inside_an_archive_is_noticed(files, config):
    """The last leaf's checksum fails, when all others have been read."""
    path = files["openpi JAX"]
    data = bytearray(path.read_bytes())
    start = data.rindex(b"time_mlp_out/kernel.npy", 0, data.index(b"PK\x01\x02"))
    data[start + 300] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(path, config=config)


def test_wrong_sizes_name_the_first_tensors(files, config):
    """A config that is not the file's: many faults, a few named, the rest counted."""
    with pytest.raises(CheckpointError) as caught:
        load_model(files["LeRobot"], config=replace(config, expert_width=16))
    text = str(caught.value)
    assert "of another shape" in text
    assert "more" in text
    assert len(text) < 2000


def test_missing_layers_are_named(files, config):
    with pytest.raises(CheckpointError, match=r"missing: .*layers\.2"):
        load_model(files["LeRobot"], config=replace(config, depth=3))
    with pytest.raises(CheckpointError, match=r"unexpected: .*layers\.1"):
        load_model(files["LeRobot"], config=replace(config, depth=1))


def test_a_file_without_its_first_layers_is_incomplete(files, lerobot_tensors):
    kept = {name: tensor for name, tensor in lerobot_tensors.items() if "mlp.fc1" not in name}
    save_file(kept, files["LeRobot"])
    with pytest.raises(CheckpointError, match="the LeRobot checkpoint is incomplete"):
        load_model(files["LeRobot"])


def test_shapes_that_make_no_sense(files, jax_arrays):
    jax_arrays["PaliGemma/llm/layers/attn/q_einsum/w"] = np.zeros((2, 3), dtype=np.float32)
    np.savez(files["openpi JAX"], **jax_arrays)
    with pytest.raises(CheckpointError, match="the shapes in the checkpoint are not"):
        load_model(files["openpi JAX"])


def test_pi0_is_recognised(files, config, openpi_tensors):
    openpi_tensors["state_proj.weight"] = torch.zeros(3, 3)
    save_file(openpi_tensors, files["openpi PyTorch"])
    with pytest.raises(CheckpointError, match="this is a π₀ checkpoint"):
        load_model(files["openpi PyTorch"], config=config)


def test_the_weight_file_of_an_adapter_is_no_network(files, config, lerobot_tensors):
    lerobot_tensors["model.action_in_proj.lora_A.weight"] = torch.zeros(4, 6)
    save_file(lerobot_tensors, files["LeRobot"])
    with pytest.raises(CheckpointError, match="lora_A") as caught:
        load_model(files["LeRobot"], config=config)
    assert "adapter_config.json" in str(caught.value)


def test_another_network_is_refused(tmp_path):
    save_file({"encoder.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="the file holds no"):
        load_model(tmp_path / "w.safetensors")


# Paths


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_model(tmp_path / "nowhere")


def test_an_empty_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint found"):
        load_model(tmp_path)


def test_pickled_files_are_not_opened(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="kind of weight file"):
        load_model(tmp_path / "model.pt")


def test_lerobot_folder_of_another_policy(tmp_path, lerobot_tensors):
    folder = lerobot_folder(tmp_path / "policy", lerobot_tensors, type="pi0")
    with pytest.raises(CheckpointError, match="another policy"):
        load_model(folder)


def test_a_newer_format_is_refused(tmp_path, config, weights):
    folder = pi05_folder(tmp_path / "000010", config, weights)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "format_version": 99}))
    with pytest.raises(CheckpointError, match="newer pi05"):
        load_model(folder)


@pytest.mark.parametrize("depth", [100, 512, 10**6, 10**18])
def test_more_layers_than_tensors_are_refused_before_anything_is_laid_out(depth: int, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(TINY_BASE, tmp_path / "deep"))
    config = json.loads((folder / "config.json").read_text())
    config["model"]["depth"] = depth
    (folder / "config.json").write_text(json.dumps(config))
    started = time.monotonic()
    with pytest.raises(UserError, match=r"config\.json|more layers|do not fit") as told:
        load_model(folder)
    assert time.monotonic() - started < 60
    assert str(folder) in str(told.value)
