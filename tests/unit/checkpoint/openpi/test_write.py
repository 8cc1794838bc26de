"""What is written for openpi: its strict loader takes the weights, its formula gives our values, the note is Python."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from pi05.checkpoint.openpi.names import EMBEDDING, LANGUAGE_HEAD
from pi05.checkpoint.openpi.write import (
    METADATA,
    differences,
    openpi_note,
    openpi_tensors,
    require_asset_id,
    require_expressible,
    write_openpi_files,
)
from pi05.checkpoint.safetensors_writer import write_safetensors
from pi05.data.processor import Processor
from pi05.errors import CheckpointError, ConfigError
from pi05.model.config import pi05, tiny
from pi05.model.pi05 import Pi05


class Named(nn.Module):
    """A module with any parameter names, two of which are one tensor, as openpi's network has them."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self._place(name, nn.Parameter(torch.full(shape, torch.nan)))
        self._place(EMBEDDING, self.get_parameter(LANGUAGE_HEAD))

    def _place(self, name: str, value: nn.Parameter) -> None:
        *path, leaf = name.split(".")
        module: nn.Module = self
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        module.register_parameter(leaf, value)


def test_openpis_strict_loader_takes_the_file(model: Pi05, tmp_path: Path) -> None:
    """`safetensors.torch.load_model` is what openpi's server calls; it wants one name of the tied pair, not both."""
    lazy = openpi_tensors(model, torch.float32)
    write_safetensors(tmp_path / "model.safetensors", lazy, METADATA)
    theirs = Named({name: tensor.shape for name, tensor in lazy.items()})
    safetensors.torch.load_model(theirs, tmp_path / "model.safetensors", strict=True)
    assert torch.equal(theirs.get_parameter(EMBEDDING), model.embedding.weight)
    assert all(not parameter.isnan().any() for parameter in theirs.parameters())
    safetensors.torch.save_model(theirs, str(tmp_path / "theirs.safetensors"))
    assert (tmp_path / "theirs.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("change", ["both names", "no expert head"])
def test_the_loader_is_as_strict_as_it_is_said_to_be(model: Pi05, tmp_path: Path, change: str) -> None:
    lazy = openpi_tensors(model, torch.float32)
    shapes = {name: tensor.shape for name, tensor in lazy.items()}
    if change == "both names":
        lazy[EMBEDDING] = lazy[LANGUAGE_HEAD]
    else:
        del lazy["paligemma_with_expert.gemma_expert.lm_head.weight"]
    write_safetensors(tmp_path / "model.safetensors", lazy, METADATA)
    with pytest.raises(RuntimeError, match=r"Unexpected key|Missing key"):
        safetensors.torch.load_model(Named(shapes), tmp_path / "model.safetensors", strict=True)


def test_names_shapes_and_precisions_are_those_of_openpi(full_size: Pi05, golden_keys) -> None:
    written = openpi_tensors(full_size, torch.bfloat16)
    found = {name: (lazy.shape, str(lazy.dtype).removeprefix("torch.")) for name, lazy in written.items()}
    wanted = golden_keys("openpi_torch.txt")
    del wanted[EMBEDDING]
    assert len(found) == 812
    assert found == wanted


def test_files_beside_the_weights(processor: Processor, tmp_path: Path) -> None:
    write_openpi_files(tmp_path, processor, asset_id="lab/arm", dtype=torch.bfloat16)
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "action_dim": 32,
        "action_horizon": 50,
        "paligemma_variant": "gemma_2b",
        "action_expert_variant": "gemma_300m",
        "precision": "bfloat16",
    }
    written = json.loads((tmp_path / "assets" / "lab" / "arm" / "norm_stats.json").read_text())
    groups = written["norm_stats"]
    assert {key: sorted(group) for key, group in groups.items()} == {
        key: ["mean", "q01", "q99", "std"] for key in ("state", "actions")
    }
    assert groups["actions"]["q99"] == [1.0] * 4


@pytest.mark.parametrize("mode", ["QUANTILES", "MEAN_STD", "IDENTITY"])
def test_openpis_formula_gives_our_values(processor: Processor, tmp_path: Path, mode, flat_stats) -> None:
    policy = replace(processor, normalization={"STATE": mode, "ACTION": mode}, state_stats=flat_stats(5, 0.3, 4.0))
    write_openpi_files(tmp_path, policy, asset_id="arm", dtype=torch.float32)
    group = json.loads((tmp_path / "assets" / "arm" / "norm_stats.json").read_text())["norm_stats"]["state"]
    low, high = (np.array(group[name]) for name in ("q01", "q99"))
    raw = np.linspace(-3, 5, 5)
    theirs = (raw - low) / (high - low + 1e-6) * 2.0 - 1.0
    np.testing.assert_allclose(theirs, policy.state_normalizer.normalize(raw), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("asset_id", ["", "/abs", "a//b", "../up", "a/..", "a b", "a/"])
def test_asset_ids_that_lead_elsewhere_are_refused(asset_id: str) -> None:
    with pytest.raises(ConfigError, match="asset id"):
        require_asset_id(asset_id)
    require_asset_id("physical-intelligence/libero")


def test_the_note_is_python_with_the_policys_values(processor: Processor) -> None:
    policy = replace(processor, relative_mask=(True, True, True, False), prompt_format="none")
    note = openpi_note(policy, "lab/arm")
    (code,) = re.findall(r"```python\n(.*?)```", note, re.S)
    tree = ast.parse(code)
    values = {node.arg: node.value for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    told = {name: ast.literal_eval(values[name]) for name in ("action_dim", "action_horizon", "max_token_len")}
    assert told == {"action_dim": 32, "action_horizon": 50, "max_token_len": 200}
    assert ast.literal_eval(values["discrete_state_input"]) is False
    assert ast.literal_eval(values["asset_id"]) == "lab/arm"
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and "Actions" in ast.unparse(node.func)]
    assert [ast.literal_eval(call.args[0]) for call in calls] == [[True, True, True, False]] * 2
    assert "| `left_wrist_0_rgb` | empty: a black picture with image_mask False |" in note
    assert "| `right_wrist_0_rgb` | `observation.images.hand` |" in note
    assert "DeltaActions" not in openpi_note(processor, "arm")
    assert "discrete_state_input=True" in openpi_note(processor, "arm")


def test_the_padded_prompt_is_refused(processor: Processor) -> None:
    with pytest.raises(CheckpointError, match="without padding"):
        require_expressible(replace(processor, prompt_format="state32"))
    require_expressible(replace(processor, prompt_format="none"))


def test_what_differs_is_told(processor: Processor) -> None:
    assert len(differences(processor, pi05())) == 1  # the server's bfloat16
    assert "other sizes" in " ".join(differences(processor, tiny()))
