"""Round trips of the peers' own folders through ours: weights and statistics come back to the bit, actions stay.

LeRobot's two dead language heads are written afresh, as the embedding and as zeros; statistics of pictures and index
columns, which no policy uses, are left out. openpi's dead expert head is zero; the rest of its file is equal.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import write_byte_tokenizer
from safetensors.torch import load_file

from pi05.checkpoint.locate import locate
from pi05.checkpoint.policy_options import PolicyOptions
from pi05.export.export import export_policy
from pi05.policy import Policy

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
LEROBOT = GOLDEN / "lerobot_checkpoints"
TASK = "pick up the red cube"
ACTIONS = 1e-4
"""Absolute, in robot units, against LeRobot's own actions: float32, sums in another order over ten Euler steps."""
EXPERT_HEAD = "paligemma_with_expert.gemma_expert.lm_head.weight"
NEWER = {
    *("use_visual_memory", "use_proprioceptive_memory", "memory_frames", "memory_stride"),
    *("memory_temporal_attention_every", "rtc_training_max_delay"),
}
OF_TRAINING = {"device", "pretrained_path", "pretrained_revision"}


def silent(line: str) -> None:
    """Swallow a line."""


@pytest.fixture(scope="module")
def there_and_back(lerobot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeRobot's folder → pi05 → LeRobot."""
    root = tmp_path_factory.mktemp("lerobot")
    ours = export_policy(locate(LEROBOT / "full"), root / "ours", to="pi05", sizes=lerobot.config, say=silent).folder
    return export_policy(locate(ours), root / "back", to="lerobot", say=silent).folder


def test_lerobots_weights_come_back_to_the_bit(there_and_back: Path) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (LEROBOT / "full", there_and_back))
    assert before.keys() == after.keys()
    different = {name for name in before if not torch.equal(before[name], after[name])}
    assert all("lm_head" in name for name in different)


def test_lerobots_statistics_come_back_to_the_bit(there_and_back: Path) -> None:
    for file in LEROBOT.glob("full/policy_*.safetensors"):
        before, after = load_file(file), load_file(there_and_back / file.name)
        used = {name for name in before if name.startswith(("action.", "observation.state."))}
        lost = {name.rpartition(".")[2] for name in used - after.keys()}
        assert lost <= {"q10", "q50", "q90"}
        assert after.keys() <= used
        assert all(torch.equal(before[name], after[name]) for name in after)


def test_lerobots_configuration_comes_back(there_and_back: Path) -> None:
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (LEROBOT / "full", there_and_back))
    same = set(before) - NEWER - OF_TRAINING
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    for name in ("policy_preprocessor.json", "policy_postprocessor.json"):
        steps = [json.loads((folder / name).read_text())["steps"] for folder in (LEROBOT / "full", there_and_back)]
        for theirs, ours in zip(*steps, strict=True):
            for values in (theirs["config"], ours["config"]):
                values.pop("tokenizer_name", None)
                values["features"] = {key: values["features"][key] for key in sorted(values.get("features", {}))}
            assert ours["config"] == theirs["config"], theirs["registry_name"]


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("to", ["lerobot", "openpi", "pi05"])
def test_every_layout_gives_lerobots_actions(lerobot, there_and_back: Path, tmp_path: Path, kind: str, to) -> None:
    """The golden actions, out of folders that we wrote; the adapter is merged on the way."""
    folder = there_and_back.parent / "ours"  # the same policy, written already
    if (kind, to) != ("full", "pi05"):
        folder = export_policy(locate(LEROBOT / kind), tmp_path / to, to=to, sizes=lerobot.config, say=silent).folder
    golden = load_file(LEROBOT / "golden_actions.safetensors")
    pictures = {
        key.removeprefix("input."): np.rint(golden[key][0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        for key in golden
        if key.startswith("input.observation.images.")
    }
    policy = Policy.load(folder)
    if to == "openpi":  # its client resizes in another way, and the pictures of this record are not square
        policy.processor = replace(policy.processor, resize="lerobot-bilinear-pad")
    observation = {**pictures, "observation.state": golden["input.observation.state"][0].numpy(), "task": TASK}
    actions = policy.infer(observation, noise=golden[f"{kind}.noise"])["actions"]
    np.testing.assert_allclose(actions, golden[f"{kind}.actions"][0].numpy(), rtol=0, atol=ACTIONS)


@pytest.fixture
def libero(tmp_path: Path) -> Path:
    """openpi's JAX checkpoint as openpi wrote it, with a tokenizer beside it."""
    source = Path(shutil.copytree(GOLDEN / "openpi" / "ckpt" / "ema" / "6", tmp_path / "6"))
    write_byte_tokenizer(source / "tokenizer.json")
    return source


def test_openpis_jax_folder_becomes_openpis_pytorch_file(libero: Path, tmp_path: Path, openpi) -> None:
    """Tensor by tensor the file that openpi's own PyTorch model saves, by SHA-256; statistics by value."""
    options = PolicyOptions(prompt_format="none", horizon=10)
    out = export_policy(
        locate(libero), tmp_path / "out", to="openpi", options=options, sizes=openpi.config, say=silent
    ).folder
    prints = json.loads((openpi.weights.parent / "torch_fingerprints.json").read_text())
    tensors = load_file(out / "model.safetensors")
    assert tensors.keys() == prints.keys()
    for name, tensor in tensors.items():
        if name != EXPERT_HEAD:
            assert hashlib.sha256(tensor.numpy().tobytes()).hexdigest() == prints[name]["sha256"], name
    stats = Path("assets/physical-intelligence/libero/norm_stats.json")
    assert json.loads((out / stats).read_text()) == json.loads((libero / stats).read_text())


def test_openpis_pytorch_folder_comes_back_to_the_bit(shared: Path, tmp_path: Path, openpi) -> None:
    source = tmp_path / "7"
    source.mkdir()
    shutil.copy(shared / "golden/openpi/tiny/torch_model_openpi_names.safetensors", source / "model.safetensors")
    shutil.copytree(GOLDEN / "openpi" / "ckpt" / "ema" / "6" / "assets", source / "assets")
    write_byte_tokenizer(source / "tokenizer.json")
    options = PolicyOptions(prompt_format="none", horizon=10)
    ours = export_policy(
        locate(source), tmp_path / "ours", to="pi05", options=options, sizes=openpi.config, say=silent
    ).folder
    asset_id = "physical-intelligence/libero"
    back = export_policy(locate(ours), tmp_path / "back", to="openpi", asset_id=asset_id, say=silent).folder
    before, after = (load_file(folder / "model.safetensors") for folder in (source, back))
    assert before.keys() == after.keys()
    assert {name for name in before if not torch.equal(before[name], after[name])} <= {EXPERT_HEAD}
    stats = Path("assets") / asset_id / "norm_stats.json"
    assert json.loads((back / stats).read_text()) == json.loads((source / stats).read_text())
