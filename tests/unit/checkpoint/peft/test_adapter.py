"""Adapter folders: round trips, and every way in which one may not fit. Real peft is in `tests/parity`."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import load_file, save_file
from torch import Tensor

from pi05.checkpoint.peft.adapter import apply_adapter, read_adapter, resolve_targets, write_adapter
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig
from pi05.model.lora import LoraSpec, add_lora, lora_modules, lora_state
from pi05.model.pi05 import Pi05

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
FULL = ["time_in.weight", "time_in.bias", "expert.norm.modulation.weight"]
EXPERT = "base_model.model.model.paligemma_with_expert.gemma_expert.model."
QUERY = EXPERT + "layers.1.self_attn.q_proj"


def adapt(model: Pi05, targets: str | list[str] = ".*_proj", **settings: object) -> Pi05:
    """Return the network with adapters that are not zero."""
    spec = LoraSpec(**{"rank": 3, "alpha": 6, **settings})  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    add_lora(model, dict.fromkeys(resolve_targets(model, targets), spec), generator)
    for value in lora_state(model).values():
        value.add_(torch.randn(value.shape, generator=generator))
    return model


@pytest.fixture
def folder(model, tmp_path) -> Path:
    """A complete adapter folder: adapters everywhere, two modules trained in full."""
    write_adapter(tmp_path / "adapter", adapt(deepcopy(model)), base="../base", full=FULL)
    return tmp_path / "adapter"


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize("dora", [False, True])
def test_round_trip(model, tmp_path, dora):
    base, adapted = deepcopy(model), adapt(model, dora=dora, rslora=dora)
    with torch.no_grad():
        for name in FULL:
            adapted.get_parameter(name).add_(1)
    written = write_adapter(tmp_path, adapted, base="../base", full=FULL)
    before = {name: value.clone() for name, value in base.named_parameters()}
    adapter = read_adapter(tmp_path, base)
    assert_same(dict(base.named_parameters()), before)
    assert adapter.specs == {name: module.spec for name, module in lora_modules(adapted).items()}
    assert adapter.ignored == {}
    assert set(adapter.full) == {*FULL, "expert.norm.modulation.bias"}
    data = (tmp_path / WEIGHTS).read_bytes()
    assert adapter.files == {WEIGHTS: hashlib.sha256(data).hexdigest()}
    assert (written["sha256"], written["bytes"]) == (adapter.files[WEIGHTS], adapter.bytes)
    assert adapter.bytes == len(data)
    assert adapter.config["base_model_name_or_path"] == "../base"
    apply_adapter(base, adapter)
    assert_same(dict(base.named_parameters()), dict(adapted.named_parameters()))


def test_writing_again_gives_the_same_bytes(model, folder):
    data = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(data) == {WEIGHTS, CONFIG}
    write_adapter(folder, adapt(deepcopy(model)), base="../base", full=FULL)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == data


def test_everything_in_full_that_lerobot_has(model, tmp_path):
    """The convolution, embeddings and norms go through LeRobot's axes and back."""
    adapted = adapt(deepcopy(model), ["q_proj"])
    full = ["vision.patch_embedding.weight", "embedding.weight", "vision.position_embedding", "language.norm.scale"]
    write_adapter(tmp_path, adapted, base="b", full=full)
    vision = "base_model.model.model.paligemma_with_expert.paligemma.model.vision_tower.vision_model.embeddings."
    assert load_file(tmp_path / WEIGHTS)[vision + "patch_embedding.weight"].shape == (18, 3, 4, 4)
    adapter = read_adapter(tmp_path, model)
    assert set(adapter.full) == {*full, "vision.patch_embedding.bias"}
    assert all(torch.equal(value, model.get_parameter(name)) for name, value in adapter.full.items())


def test_the_pattern_that_was_given_is_recorded(model, tmp_path):
    pattern = r".*\.gemma_expert\..*\.self_attn\.(q|v)_proj"
    adapted = adapt(deepcopy(model), pattern)
    write_adapter(tmp_path, adapted, base="b", extra={"target_modules": pattern})
    assert json.loads((tmp_path / CONFIG).read_text())["target_modules"] == pattern
    assert set(read_adapter(tmp_path, model).specs) == set(lora_modules(adapted))


def test_what_would_not_read_back_is_not_written(model, tmp_path):
    with pytest.raises(ValueError, match="must be on linear maps"):
        write_adapter(tmp_path / "x", model, base="b")
    adapted = adapt(deepcopy(model), ["q_proj"])
    with pytest.raises(ValueError, match="would not be read back"):
        write_adapter(tmp_path / "x", adapted, base="b", extra={"target_modules": ["q_proj", "v_proj"]})
    with pytest.raises(ValueError, match="would not be read back"):
        write_adapter(tmp_path / "x", adapted, base="b", full=["expert.layers.0.attention.query.weight"])
    add_lora(model, {"vision.patch_embedding": LoraSpec(rank=2, alpha=2)})
    with pytest.raises(ValueError, match=r"vision\.patch_embedding"):
        write_adapter(tmp_path / "x", model, base="b")
    assert not (tmp_path / "x").exists()


def test_bfloat16_base_and_adapter_file(model, folder):
    """Adapters are float32 whatever the file holds; what was trained in full takes the base's precision."""
    tensors = {name: value.bfloat16() for name, value in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS)
    model.to(torch.bfloat16)
    adapter = read_adapter(folder, model)
    assert {value.dtype for value in adapter.lora.values()} == {torch.float32}
    apply_adapter(model, adapter)
    assert model.time_in.weight.dtype == torch.bfloat16
    assert torch.equal(model.time_in.weight, tensors["base_model.model.model.time_mlp_in.weight"])


def test_read_for_a_network_without_values(config, folder):
    with torch.device("meta"):
        empty = Pi05(config)
    assert len(read_adapter(folder, empty).specs) == len(resolve_targets(empty, ".*_proj"))


def edit(change: Callable[[dict[str, Tensor]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)

    return apply


def edit_config(**values: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps({**config, **values}))

    return apply


def cut(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "one of a pair is missing": (edit(lambda t: t.pop(f"{QUERY}.lora_B.weight")), r"no .*layers\.1.*q_proj\.lora_B"),
    "a whole pair is missing": (
        edit(lambda t: [t.pop(f"{QUERY}.lora_{part}.weight") for part in "AB"]),
        r"no .*q_proj\.lora_A",
    ),
    "a module trained in full is missing": (
        edit(lambda t: t.pop("base_model.model.model.time_mlp_in.bias")),
        r"no base_model\.model\.model\.time_mlp_in\.bias",
    ),
    "a module that is no target": (
        edit(lambda t: t.update({"base_model.model.model.time_mlp_out.lora_A.weight": torch.zeros(3, 20)})),
        r"unexpected .*time_mlp_out\.lora_A",
    ),
    "a module that the network does not have": (
        edit(lambda t: t.update({f"{EXPERT}layers.2.self_attn.q_proj.lora_A.weight": torch.zeros(3, 20)})),
        r"unexpected .*layers\.2\.self_attn",
    ),
    "full weights that were not announced": (
        edit(lambda t: t.update({"base_model.model.model.time_mlp_out.weight": torch.zeros(20, 20)})),
        r"unexpected .*time_mlp_out\.weight",
    ),
    "a name without peft's prefix": (
        edit(lambda t: t.update({"x.lora_A.weight": t.pop(f"{QUERY}.lora_A.weight")})),
        r"unexpected x\.lora_A",
    ),
    "an adapter of an embedding": (
        edit(lambda t: t.update({"base_model.model.model.embed.lora_embedding_A": torch.zeros(3, 5)})),
        "unexpected .*lora_embedding_A",
    ),
    "a magnitude without DoRA": (
        edit(lambda t: t.update({f"{QUERY}.lora_magnitude_vector": torch.zeros(32)})),
        "unexpected .*lora_magnitude_vector",
    ),
    "DoRA without its magnitudes": (edit_config(use_dora=True), "no .*lora_magnitude_vector"),
    "another rank than announced": (edit_config(r=4), r"lora_A\.weight is \[3, 18\], wanted \[4, 18\]"),
    "another shape": (
        edit(lambda t: t.update({f"{QUERY}.lora_B.weight": torch.zeros(31, 3)})),
        r"lora_B\.weight is \[31, 3\], wanted \[32, 3\]",
    ),
    "not finite": (
        edit(lambda t: t[f"{QUERY}.lora_B.weight"].fill_(float("nan"))),
        "96 of 96 values are NaN or infinite",
    ),
    "whole numbers": (
        edit(lambda t: t.update({f"{QUERY}.lora_B.weight": torch.zeros(32, 3, dtype=torch.int8)})),
        "does not hold weights",
    ),
    "cut short": (cut, "damaged, cut short"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "weights are missing"),
    "no configuration": (lambda folder: (folder / CONFIG).unlink(), f"{CONFIG} is missing"),
    "pickled": (lambda folder: (folder / WEIGHTS).rename(folder / "adapter_model.bin"), "can run code"),
    "a target that cannot have an adapter": (edit_config(target_modules=["embed_tokens"]), "the token embedding"),
    "targets that hit nothing": (edit_config(target_modules=["q_prj"]), "hits none of them"),
    "no targets": (edit_config(target_modules=None), "hits none of them"),
    "a kind of adapter that is not known": (edit_config(peft_type="LOHA"), "of a kind that cannot be read"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_adapter_that_does_not_fit_is_refused(model, folder, fault):
    damage, message = FAULTS[fault]
    damage(folder)
    before = {name: value.clone() for name, value in model.named_parameters()}
    with pytest.raises(CheckpointError, match=message) as refusal:
        read_adapter(folder, model)
    assert refusal.value.remedy
    assert_same(dict(model.named_parameters()), before)


def test_an_adapter_of_another_network(model, tmp_path, config):
    other = ModelConfig(**{**config.to_dict(), "expert_width": 24})
    write_adapter(tmp_path, adapt(Pi05(other)), base="b")
    with pytest.raises(CheckpointError, match=r"wanted \[3, 20\]"):
        read_adapter(tmp_path, model)


def test_many_faults_are_counted(model, folder):
    edit(lambda t: [t.pop(name) for name in list(t) if "lora_A" in name])(folder)
    with pytest.raises(CheckpointError, match=r"and \d+ more"):
        read_adapter(folder, model)


def test_a_write_that_fails_leaves_the_old_adapter(model, folder):
    """What fails while writing costs nothing that was there."""
    data = {path.name: path.read_bytes() for path in folder.iterdir()}
    broken = adapt(deepcopy(model))
    lora_state(broken)["expert.layers.0.attention.query.lora_b"].fill_(float("inf"))
    with pytest.raises(ValueError, match="NaN or infinite"):
        write_adapter(folder, broken, base="../base", full=FULL)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == data


PLAIN = st.fixed_dictionaries({"rslora": st.booleans(), "dora": st.booleans(), "dropout": st.sampled_from([0.0, 0.1])})
EACH = st.fixed_dictionaries({"rank": st.integers(1, 9), "alpha": st.sampled_from([1, 8, 0.5, 16.0])})
NAMES = st.lists(st.sampled_from(range(25)), min_size=1, unique=True)


@settings(max_examples=30)
@given(plain=PLAIN, each=st.lists(EACH, min_size=25, max_size=25), chosen=NAMES, full=st.sets(st.integers(0, 60)))
def test_any_adapters_come_back(plain, each, chosen, full):
    """Any modules, ranks and alphas, in any mixture that peft can say, with any modules trained in full."""
    config = ModelConfig(
        image_size=4, patch_size=2, vision_width=6, vision_depth=1, vision_mlp=5, vision_heads=3, vocab_size=7,
        language_width=6, language_mlp=4, expert_width=4, expert_mlp=3, depth=1, num_heads=2, num_kv_heads=1,
        head_dim=2, action_dim=3, horizon=2, max_prompt_tokens=4,
    )  # fmt: skip
    torch.manual_seed(0)
    base, adapted = Pi05(config), Pi05(config)
    maps = list(resolve_targets(adapted, "all-linear"))
    specs = {maps[index % len(maps)]: LoraSpec(**plain, **each[index]) for index in chosen}
    add_lora(adapted, specs)
    for value in lora_state(adapted).values():
        value.normal_()
    names = [name for name, _ in base.named_parameters() if name.rpartition(".")[0] not in specs]
    trained = sorted({names[index % len(names)] for index in full})
    with tempfile.TemporaryDirectory() as folder:
        write_adapter(Path(folder), adapted, base="base", full=trained)
        adapter = read_adapter(Path(folder), base)
    assert adapter.specs == specs
    assert set(trained) <= set(adapter.full)
    apply_adapter(base, adapter)
    assert_same(lora_state(base), lora_state(adapted))
    assert all(torch.equal(base.get_parameter(name), adapted.get_parameter(name)) for name in adapter.full)
