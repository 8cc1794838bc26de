"""Which modules patterns hit. Equality with peft's own matching is in `tests/parity/test_lora_peft.py`."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import torch

from pi05.checkpoint.peft.names import HEADS, REASONS, in_layers, lerobot_modules, resolve_full, resolve_targets
from pi05.errors import ConfigError
from pi05.model.config import pi05
from pi05.model.lora import LoraSpec, add_lora
from pi05.model.pi05 import Pi05

RECORD = Path(__file__).resolve().parents[3] / "golden" / "keys" / "lerobot_modules.txt"
LEROBOT_DEFAULT = (
    r"(.*\.gemma_expert\..*\.self_attn\.(q|v)_proj"
    r"|model\.(state_proj|action_in_proj|action_out_proj|action_time_mlp_in|action_time_mlp_out))"
)


def counted(targets: dict[str, str]) -> dict[str, int]:
    """Return how many targets each part of the network has."""
    return dict(Counter(name.split(".")[0] for name in targets))


def test_the_modules_are_lerobots():
    """Names, numbers and kinds at full size, against LeRobot's own module list."""
    with torch.device("meta"):
        modules = lerobot_modules(Pi05(pi05()))
    recorded = [line.split() for line in RECORD.read_text().splitlines() if not line.startswith("#")]
    ours = Counter(re.sub(r"\.\d+", ".*", name) for name in modules.names)
    assert ours == {name: int(count) for name, _, count in recorded}
    linear = {name for name, kind, _ in recorded if kind == "Linear"}
    assert {re.sub(r"\.\d+", ".*", name) for name in modules.linear} == linear - set(HEADS)
    assert set(HEADS) <= linear
    assert set(REASONS) <= set(modules.others)


def test_lerobots_default_hits_expert_and_action_projections(model):
    targets = resolve_targets(model, LEROBOT_DEFAULT)
    assert counted(targets) == {"expert": 4, "action_in": 1, "action_out": 1}
    assert targets["action_in"] == "model.action_in_proj"
    query = "model.paligemma_with_expert.gemma_expert.model.layers.1.self_attn.q_proj"
    assert targets["expert.layers.1.attention.query"] == query


def test_endings_hit_every_tower(model):
    assert counted(resolve_targets(model, ["q_proj", "v_proj"])) == {"vision": 4, "language": 4, "expert": 4}
    assert counted(resolve_targets(model, ["gate_proj"])) == {"language": 2, "expert": 2}
    assert counted(resolve_targets(model, ["fc2", "out_proj"])) == {"vision": 4}
    assert list(resolve_targets(model, ["linear"])) == ["vision.head"]
    assert list(resolve_targets(model, ["time_mlp_out", "time_mlp_in"])) == ["time_in", "time_out"]
    assert list(resolve_targets(model, ["norm.dense"])) == ["expert.norm.modulation"]


def test_all_linear(model):
    targets = resolve_targets(model, "ALL-linear")
    maps = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert set(targets) == maps - {"vision.patch_embedding"}
    assert list(targets) == [name for name, _ in model.named_modules() if name in targets]


def test_excluded_and_trained_in_full(model):
    targets = resolve_targets(model, ["q_proj", "action_in_proj"], ["layers.0.self_attn.q_proj"])
    assert counted(targets) == {"vision": 1, "language": 1, "expert": 1, "action_in": 1}
    targets = resolve_targets(model, "all-linear", r".*\.(language_model|vision_tower)\..*")
    assert counted(targets) == {"vision": 1, "expert": 19, "action_in": 1, "action_out": 1, "time_in": 1, "time_out": 1}
    kept = resolve_targets(model, ["q_proj", "action_in_proj"], modules_to_save=["action_in_proj"])
    assert counted(kept) == {"vision": 2, "language": 2, "expert": 2}


@pytest.mark.parametrize(
    ("targets", "named"),
    [
        (["q_pro"], "q_proj"),
        (["q_proj", "k_prj"], "k_proj"),
        (["action_time_mlp_in"], "time_mlp_in"),
        ("q_proj", r"\[q_proj\]"),
        (r".*\.gemma_expert\..*\.query", "see the names: q_proj"),
        ([], "see the names: q_proj"),
        ("(", "correct it"),
    ],
)
def test_what_hits_nothing_is_an_error(model, targets, named):
    """Where LeRobot goes on in silence: a list with one wrong name."""
    with pytest.raises(ConfigError, match=named):
        resolve_targets(model, targets)


def test_an_exclusion_that_hits_nothing_is_an_error(model):
    with pytest.raises(ConfigError, match="exclude_modules names modules that the network does not have"):
        resolve_targets(model, ["q_proj"], ["v_prj"])
    with pytest.raises(ConfigError, match="no module is left"):
        resolve_targets(model, ["q_proj"], ["q_proj"])
    with pytest.raises(ConfigError, match="no module is left"):
        resolve_targets(model, ["time_mlp_in"], modules_to_save=["time_mlp_in"])


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        (["patch_embedding"], "the patch embedding, a convolution in LeRobot"),
        (["embed_tokens"], "the token embedding, no linear map"),
        (["q_proj", "position_embedding"], "the position embedding, no linear map"),
        (["lm_head"], "a language head, not used by π₀.₅"),
        (["self_attn"], r"layers\.0\.self_attn \(no linear map\)"),
        (r".*norm.*", r"layer_norm1 \(no linear map\)"),
        (["act_fn"], "no linear map"),
    ],
)
def test_what_cannot_have_an_adapter_is_refused(model, targets, reason):
    with pytest.raises(ConfigError, match=reason):
        resolve_targets(model, targets)


def test_modules_in_full(model):
    """An entry is any ending, as peft has it: norm.dense hits the layers' norms, too."""
    assert resolve_full(model, []) == {}
    assert resolve_full(model, ["time_mlp_in"]) == {
        "time_in.weight": "model.time_mlp_in.weight",
        "time_in.bias": "model.time_mlp_in.bias",
    }
    everywhere = resolve_full(model, ["norm.dense"])
    assert len(everywhere) == 10
    assert len(resolve_full(model, ["model.norm.dense"])) == 2
    assert set(resolve_full(model, ["embed_tokens", "patch_embedding", "position_embedding"])) == {
        "embedding.weight",
        "vision.patch_embedding.weight",
        "vision.patch_embedding.bias",
        "vision.position_embedding",
    }
    with pytest.raises(ConfigError, match="did you mean time_mlp_in"):
        resolve_full(model, ["time_mlp_inn"])


def test_names_do_not_change_when_adapters_are_on(model):
    before = resolve_targets(model, "all-linear")
    add_lora(model, dict.fromkeys(resolve_targets(model, ["q_proj"]), LoraSpec(rank=2, alpha=2)))
    assert resolve_targets(model, "all-linear") == before


@pytest.mark.parametrize(
    ("layers", "pattern", "passes"),
    [
        ((), None, True),
        (1, None, True),
        (0, None, False),
        ((0, 1), "layers", True),
        ((1,), ["blocks", "layers"], True),
        ((1,), "blocks", False),
    ],
)
def test_layers_to_transform(layers, pattern, passes):
    assert in_layers("model.paligemma.layers.1.mlp.experts.0.up_proj", layers, pattern) is passes
    assert in_layers("model.action_in_proj", layers, pattern) is (layers == ())


def test_a_miss_is_told_in_the_words_of_the_flag(model):
    with pytest.raises(ConfigError, match=r"^--peft\.target_modules names modules"):
        resolve_targets(model, ["q_porj"])
    with pytest.raises(ConfigError, match=r"^--peft\.full_training_modules names modules"):
        resolve_full(model, ["nowhere"])
