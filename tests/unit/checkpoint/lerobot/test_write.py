"""What is written for LeRobot: names, precisions, fields and steps are LeRobot's own; what it cannot do is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from pi05.checkpoint.lerobot.tokenizer_name import point_tokenizer, tokenizer_name
from pi05.checkpoint.lerobot.write import VERSIONS, differences, lerobot_config, lerobot_tensors, require_expressible
from pi05.checkpoint.lerobot.write_steps import relative_words, write_pipelines
from pi05.data.cameras import CameraSlots
from pi05.data.processor import Processor
from pi05.data.resize import LEROBOT_RESIZE
from pi05.errors import CheckpointError
from pi05.model.config import pi05, tiny
from pi05.model.pi05 import Pi05

GOLDEN = Path(__file__).resolve().parents[3] / "golden"
FULL = GOLDEN / "lerobot_checkpoints" / "full"
NEWER = {
    *("use_visual_memory", "use_proprioceptive_memory", "memory_frames", "memory_stride"),
    *("memory_temporal_attention_every", "rtc_training_max_delay"),
}
"""Fields of LeRobot 0.6.2-dev that 0.6.1 refuses."""
NORMALIZER_SETTINGS = ("eps", "features", "norm_map")
"""Settings that all versions inherit from one class, which `versions.json` does not follow."""


def config(processor: Processor, **changes: Any) -> dict[str, Any]:
    settings = {"n_action_steps": 7, "cameras": {}, "dtype": torch.float32, "exclude": ["gripper"], **changes}
    return lerobot_config(processor, **settings)


# --- weights ----------------------------------------------------------------------------------------------------------


def test_names_shapes_and_precisions_are_those_of_lerobot(full_size: Pi05, golden_keys) -> None:
    """All 813, both dead heads among them; in bfloat16 LeRobot keeps norms, vision and projections in float32."""
    written = lerobot_tensors(full_size, torch.bfloat16)
    found = {name: (lazy.shape, str(lazy.dtype).removeprefix("torch.")) for name, lazy in written.items()}
    assert found == golden_keys("lerobot_torch.txt")
    assert {lazy.dtype for lazy in lerobot_tensors(full_size, torch.float32).values()} == {torch.float32}


def test_the_heads_are_the_embedding_and_zeros(model: Pi05) -> None:
    tensors = lerobot_tensors(model, torch.float32)
    heads = {name: lazy.make() for name, lazy in tensors.items() if "lm_head" in name}
    assert torch.equal(heads["model.paligemma_with_expert.paligemma.lm_head.weight"], model.embedding.weight)
    expert = heads["model.paligemma_with_expert.gemma_expert.lm_head.weight"]
    assert expert.shape == (model.config.vocab_size, model.config.expert_width)
    assert not expert.any()


# --- config.json ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_fields_and_steps_are_known_to_every_version(version: str, processor: Processor, tmp_path: Path) -> None:
    """A version refuses a field, a step or a step's setting that it does not know."""
    known = json.loads((GOLDEN / "lerobot_configs" / "versions.json").read_text())[version]
    written = config(processor)
    assert next(iter(written)) == "type"
    assert set(written) <= set(known["config"])
    write_pipelines(tmp_path, processor, cameras={}, tokenizer_name="/somewhere/tokenizer")
    for name in ("policy_preprocessor.json", "policy_postprocessor.json"):
        for step in json.loads((tmp_path / name).read_text())["steps"]:
            settings = known["steps"][step["registry_name"]]
            ours = set(step["config"]) - set(NORMALIZER_SETTINGS if "normalizer" in step["registry_name"] else ())
            assert ours <= set(settings), step["registry_name"]


def test_fields_have_the_types_that_lerobot_writes(processor: Processor) -> None:
    golden = json.loads((FULL / "config.json").read_text())
    written = config(processor)
    assert set(golden) - NEWER - set(written) == {"pretrained_revision"}  # unknown to versions before 0.6
    for name, value in written.items():
        assert value is None or golden[name] is None or type(value) is type(golden[name]), name


def test_values_are_the_policys(processor: Processor) -> None:
    written = config(processor, cameras={"observation.images.top": (480, 640)}, dtype=torch.bfloat16)
    assert list(written["input_features"]) == [
        *("observation.images.top", "observation.images.hand", "observation.state"),
        "observation.images.empty_camera_0",
    ]
    shapes = {key: feature["shape"] for key, feature in written["input_features"].items()}
    assert shapes["observation.images.top"] == [3, 480, 640]
    assert shapes["observation.images.hand"] == [3, 224, 224]
    assert shapes["observation.state"] == [5]
    assert written["output_features"] == {"action": {"type": "ACTION", "shape": [4]}}
    assert (written["chunk_size"], written["n_action_steps"], written["tokenizer_max_length"]) == (50, 7, 200)
    assert (written["empty_cameras"], written["dtype"], written["use_peft"]) == (1, "bfloat16", False)
    assert written["action_feature_names"] == ["shoulder", "elbow", "wrist", "gripper"]
    assert written["normalization_mapping"] == {"VISUAL": "IDENTITY", "STATE": "QUANTILES", "ACTION": "QUANTILES"}


# --- processors -------------------------------------------------------------------------------------------------------


def shape_of(value: Any) -> Any:
    """Return the structure of plain data: keys, and the types of leaves."""
    if isinstance(value, dict):
        return {key: shape_of(item) for key, item in value.items()}
    return type(value).__name__


@pytest.mark.parametrize("name", ["policy_preprocessor.json", "policy_postprocessor.json"])
def test_steps_are_those_of_lerobot(processor: Processor, tmp_path: Path, name: str) -> None:
    write_pipelines(tmp_path, processor, cameras={}, tokenizer_name="/somewhere/tokenizer")
    written, golden = (json.loads((folder / name).read_text()) for folder in (tmp_path, FULL))
    assert written["name"] == golden["name"]
    for ours, theirs in zip(written["steps"], golden["steps"], strict=True):
        theirs.pop("artifacts", None)  # 0.6.2-dev's, which 0.6.1 does not know
        ours["config"].pop("features", None), theirs["config"].pop("features", None)
        assert shape_of(ours) == shape_of(theirs)
        assert ours["registry_name"] == theirs["registry_name"]
        assert ours.get("state_file") == theirs.get("state_file")


def test_statistics_are_float32_and_carry_the_formula(processor: Processor, tmp_path: Path) -> None:
    write_pipelines(tmp_path, replace(processor, formula="openpi"), cameras={}, tokenizer_name="x")
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == 2
    for file in files:
        tensors = load_file(file)
        names = {f"{key}.{name}" for key in ("action", "observation.state") for name in ("mean", "std", "min", "max")}
        assert set(tensors) >= names | {"action.q01", "action.q99", "action.count", "observation.state.q99"}
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
        assert torch.equal(tensors["action.q99"], torch.tensor([1.000001] * 4))
        assert torch.equal(tensors["action.q01"], torch.tensor([-1.0] * 4))
        assert torch.equal(tensors["action.std"], torch.tensor([2.0] * 4))


def lerobots_mask(words: list[str], names: list[str] | None, dim: int) -> list[bool]:
    """Return what `RelativeActionsProcessorStep` makes of its settings."""
    if not words or names is None:
        return [True] * dim
    mask = [not any(word.lower() in name.lower() for word in words) for name in names[:dim]]
    return mask + [True] * (dim - len(mask))


labels = st.lists(st.text("aA1_/gri", min_size=0, max_size=4), min_size=1, max_size=6)


@given(names=labels, data=st.data())
def test_relative_dimensions_survive_lerobots_words(tokenizer, flat_stats, names: list[str], data) -> None:
    """Whatever the names are, one inside another or all alike, LeRobot's rule gives the policy's dimensions."""
    dim = len(names)
    mask = data.draw(st.lists(st.booleans(), min_size=dim, max_size=dim).filter(any))
    named = data.draw(st.booleans())
    policy = Processor(
        slots=CameraSlots(scene="a"), state_stats=flat_stats(dim), action_stats=flat_stats(dim), tokenizer=tokenizer,
        image_size=14, action_dim=32, horizon=2, max_prompt_tokens=200, fps=1.0,
        action_names=tuple(names) if named else (), relative_mask=tuple(mask),
    )  # fmt: skip
    words, written = relative_words(policy)
    assert lerobots_mask(words, written, dim) == mask


def test_the_tokenizers_name_is_rewritten_and_nothing_else(processor: Processor, tmp_path: Path) -> None:
    write_pipelines(tmp_path, processor, cameras={}, tokenizer_name="/old")
    before = (tmp_path / "policy_preprocessor.json").read_text()
    assert tokenizer_name(tmp_path) == "/old"
    point_tokenizer(tmp_path, "/new")
    assert (tmp_path / "policy_preprocessor.json").read_text() == before.replace('"/old"', '"/new"')
    (tmp_path / "policy_preprocessor.json").write_text('{"steps": []}')
    with pytest.raises(CheckpointError, match="no LeRobot processor with a tokenizer"):
        tokenizer_name(tmp_path)


# --- what LeRobot cannot do, or does otherwise ------------------------------------------------------------------------


@pytest.mark.parametrize("prompt_format", ["none", "state32"])
def test_other_prompts_are_refused(processor: Processor, prompt_format: Any) -> None:
    with pytest.raises(CheckpointError, match="always writes the unpadded state"):
        require_expressible(replace(processor, prompt_format=prompt_format))


def test_relative_actions_without_a_state_for_each_are_refused(processor: Processor, flat_stats) -> None:
    few = replace(processor, state_stats=flat_stats(3), relative_mask=(True, True, True, False))
    with pytest.raises(CheckpointError, match="a state number for every action dimension"):
        require_expressible(few)


def test_what_differs_is_told(processor: Processor, flat_stats) -> None:
    same = replace(processor, resize=LEROBOT_RESIZE)
    sizes = replace(pi05(), horizon=50)
    assert differences(same, sizes, 50) == []
    other = " ".join(differences(same, tiny(), 1))
    assert "random weights" in other
    assert "8 query heads" in other
    relative = replace(same, relative_mask=(True, True, True, False))
    assert "newest state" in differences(relative, sizes, 2)[0]
    assert differences(relative, sizes, 1) == []
    narrow = replace(same, state_stats=flat_stats(5, low=1000.0, width=1e-4))
    assert sum("float32 statistics" in note for note in differences(narrow, sizes, 1)) == 5
