"""`adapter_config.json`: what is understood, what is passed over, what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pi05.checkpoint.peft.config import adapter_config_values, parse_adapter_config, read_adapter_config
from pi05.errors import CheckpointError
from pi05.model.lora import LoraSpec

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "lerobot_checkpoints" / "lora"
PATH = Path("adapter_config.json")
LEAST = {"peft_type": "LORA", "target_modules": ["q_proj"]}


def test_lerobots_own():
    config = read_adapter_config(GOLDEN)
    assert (config.rank, config.alpha, config.dropout, config.rslora, config.dora) == (4, 8, 0.0, False, False)
    assert isinstance(config.target_modules, str)
    assert config.target_modules.startswith(r"(.*\.gemma_expert\.")
    assert (config.exclude_modules, config.modules_to_save, config.layers) == ((), (), ())
    assert config.spec("model.action_in_proj") == LoraSpec(rank=4, alpha=8)


def test_pefts_defaults_for_what_is_absent():
    config = parse_adapter_config(PATH, LEAST)
    assert config.spec("anything") == LoraSpec(rank=8, alpha=8)


def test_patterns_of_rank_and_alpha():
    patterns = {"rank_pattern": {"q_proj": 2, r".*\.0\..*": 3}, "alpha_pattern": {r"layers\.1\.q_proj": 5}}
    config = parse_adapter_config(PATH, {**LEAST, "r": 4, "lora_alpha": 1, "use_rslora": True, **patterns})
    assert config.spec("model.layers.1.q_proj") == LoraSpec(rank=2, alpha=5, rslora=True)
    assert config.spec("model.layers.0.q_proj") == LoraSpec(rank=2, alpha=1, rslora=True)
    assert config.spec("model.layers.0.v_proj") == LoraSpec(rank=3, alpha=1, rslora=True)
    assert config.spec("model.layers.1.vq_proj") == LoraSpec(rank=4, alpha=1, rslora=True)


@pytest.mark.parametrize(
    "setting",
    [
        {"bias": "all"},
        {"bias": "lora_only"},
        {"fan_in_fan_out": True},
        {"lora_bias": True},
        {"use_qalora": True},
        {"layer_replication": [[0, 4], [2, 5]]},
        {"trainable_token_indices": [1, 2]},
        {"target_parameters": ["experts.weight"]},
        {"alora_invocation_tokens": [7]},
        {"megatron_config": {"tensor": 1}},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "loftq"},
        {"a_feature_of_tomorrow": {"on": True}},
    ],
)
def test_features_that_cannot_be_read_are_named(setting):
    ((name, value),) = setting.items()
    with pytest.raises(CheckpointError, match="features that cannot be read") as refusal:
        parse_adapter_config(PATH, {**LEAST, **setting})
    assert f"{name}={value!r}" in str(refusal.value.found)


@pytest.mark.parametrize("kind", ["IA3", "ADALORA", "LOHA", None, "lora"])
def test_other_methods_are_refused(kind):
    with pytest.raises(CheckpointError, match="of a kind that cannot be read"):
        parse_adapter_config(PATH, {**LEAST, "peft_type": kind})


@pytest.mark.parametrize("start", [True, False, None, "gaussian", "eva", "orthogonal"])
def test_first_values_that_leave_the_base_alone_do_not_matter(start):
    assert parse_adapter_config(PATH, {**LEAST, "init_lora_weights": start}).rank == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("r", 0),
        ("r", 4.5),
        ("r", True),
        ("lora_alpha", "8"),
        ("lora_alpha", float("nan")),
        ("lora_dropout", 1),
        ("rank_pattern", {"q_proj": 0}),
        ("rank_pattern", ["q_proj"]),
        ("alpha_pattern", {"q_proj": None}),
        ("use_dora", 1),
        ("use_rslora", "yes"),
        ("target_modules", 7),
        ("target_modules", ["q_proj", 7]),
        ("modules_to_save", "time_mlp_in"),
        ("layers_to_transform", "1"),
        ("layers_to_transform", [1, "2"]),
    ],
)
def test_damaged_values_are_named(name, value):
    with pytest.raises(CheckpointError, match=f"the adapter's {name} is damaged"):
        parse_adapter_config(PATH, {**LEAST, name: value})


@pytest.mark.parametrize(
    "setting", [{"target_modules": "("}, {"rank_pattern": {"*": 3}}, {"modules_to_save": ["[norm"]}]
)
def test_patterns_that_are_none(setting):
    with pytest.raises(CheckpointError, match="patterns are damaged"):
        parse_adapter_config(PATH, {**LEAST, **setting})


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"peft_type": '])
def test_damaged_file(tmp_path, content):
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(CheckpointError):
        read_adapter_config(tmp_path)


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"adapter_config\.json is missing"):
        read_adapter_config(tmp_path)


def test_what_is_written_has_only_fields_of_lerobots_example():
    """And reads back as the same adapters; whole alphas are written as peft writes them."""
    specs = {
        "model.layers.0.q_proj": LoraSpec(rank=4, alpha=8.0),
        "model.layers.1.q_proj": LoraSpec(rank=4, alpha=0.5),
        "model.layers.11.q_proj": LoraSpec(rank=2, alpha=8.0),
    }
    values = adapter_config_values(specs, base="lerobot/pi05_base", modules_to_save=["model.time_mlp_in"], extra={})
    example = json.loads((GOLDEN / "adapter_config.json").read_text())
    assert set(values) < set(example)
    assert values["auto_mapping"] == example["auto_mapping"]
    assert (values["r"], values["lora_alpha"], type(values["lora_alpha"])) == (4, 8, int)
    assert (values["rank_pattern"], values["alpha_pattern"]) == (
        {"model.layers.11.q_proj": 2},
        {"model.layers.1.q_proj": 0.5},
    )
    config = parse_adapter_config(PATH, json.loads(json.dumps(values)))
    assert {name: config.spec(name) for name in specs} == specs
    assert sorted(config.target_modules) == sorted(specs)
    replaced = adapter_config_values(specs, base="b", modules_to_save=[], extra={"target_modules": ".*q_proj"})
    assert replaced["target_modules"] == ".*q_proj"


def test_what_peft_cannot_say():
    plain, dora = LoraSpec(rank=4, alpha=8), LoraSpec(rank=4, alpha=8, dora=True)
    with pytest.raises(ValueError, match="one choice of rsLoRA, DoRA and dropout"):
        adapter_config_values({"a": plain, "b": dora}, base="b", modules_to_save=[], extra={})
    with pytest.raises(ValueError, match="no field tokens"):
        adapter_config_values({"a": plain}, base="b", modules_to_save=[], extra={"tokens": 1})
