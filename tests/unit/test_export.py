"""Export: the folder on disk is the policy, or there is no folder. On the packaged network and on adapters of it."""

from __future__ import annotations

import json
import resource
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pi05.checkpoint import store
from pi05.checkpoint.load import read_model
from pi05.checkpoint.peft import write_adapter
from pi05.checkpoint.sidecar import SIDECAR, read_sidecar, write_sidecar
from pi05.checkpoint.tensors import hash_file
from pi05.data.tokenizer import Tokenizer
from pi05.errors import CheckpointError, ConfigError
from pi05.export import export
from pi05.exporting import checks
from pi05.exporting.probe import PROBE, ask, compare, make_probe, read_probe
from pi05.exporting.relocate import relocate
from pi05.exporting.source import open_source
from pi05.exporting.verify import verify
from pi05.model.lora import LoraSpec, add_lora, lora_modules
from pi05.policy import Policy
from pi05.train.config import TINY_BASE

LAYOUTS = ("lerobot", "openpi", "pi05")


def silent(line: str) -> None:
    """Swallow a line."""


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return one exported folder for each layout; tests must not change them."""
    root = tmp_path_factory.mktemp("exported")
    return {to: export(TINY_BASE, root / to, to=to, tell=silent).folder for to in LAYOUTS}


@pytest.fixture
def copy(exported: dict[str, Path], tmp_path: Path) -> Path:
    """Return a LeRobot folder that a test may spoil."""
    return Path(shutil.copytree(exported["lerobot"], tmp_path / "copy"))


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of an adapter on the packaged network, as if trained, and the base beside it."""
    root = tmp_path_factory.mktemp("lora")
    base = Path(shutil.copytree(TINY_BASE, root / "base"))
    model, receipt = read_model(base)
    names = [f"expert.layers.{layer}.attention.{part}" for layer in range(4) for part in ("query", "value")]
    add_lora(model, {name: LoraSpec(rank=4, alpha=8) for name in names}, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in lora_modules(model).values():
            module.lora_b.normal_(std=0.05, generator=generator)
    folder = root / "checkpoints" / "000012"
    write_adapter(folder, model, base=str(base), extra={})
    config = json.loads((base / "config.json").read_text())
    record = {"path": "../../base", "sha256": receipt.sha256}
    store.write_json(folder / "config.json", {**config, "adapter": True, "base": record, "step": 12})
    shutil.copy(base / "tokenizer.json", folder)
    return folder


# --- what is written --------------------------------------------------------------------------------------------------


def test_files_of_each_layout(exported: dict[str, Path]) -> None:
    both = {"config.json", "model.safetensors", SIDECAR, PROBE}
    assert everything(exported["pi05"]) == both | {"tokenizer.json"}
    assert everything(exported["openpi"]) == both | {"tokenizer.json", "OPENPI.md", "assets/pi05/norm_stats.json"}
    assert everything(exported["lerobot"]) == both | {
        *("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"),
        *("policy_preprocessor.json", "policy_preprocessor_step_3_normalizer_processor.safetensors"),
        *("policy_postprocessor.json", "policy_postprocessor_step_0_unnormalizer_processor.safetensors"),
    }


@pytest.mark.parametrize("to", LAYOUTS)
def test_the_folder_acts_as_the_source(exported: dict[str, Path], to: str) -> None:
    """On questions of its own, not on the probe: cameras, state, task and noise go in, robot actions come out."""
    ours, theirs = Policy.load(TINY_BASE), Policy.load(exported[to])
    assert theirs.n_action_steps == ours.n_action_steps
    assert theirs.fps == ours.fps
    assert theirs.processor.slots.by_slot == ours.processor.slots.by_slot
    random = np.random.default_rng(3)
    keys, side = ours.processor.slots.keys, ours.processor.image_size
    observations = [
        {key: random.integers(0, 256, (side, side, 3), np.uint8) for key in keys}
        | {"observation.state": random.uniform(-0.1, 0.1, 3).astype(np.float32), "task": f"push block {i}"}
        for i in range(3)
    ]
    noise = torch.randn(3, *ours.noise_shape, generator=torch.Generator().manual_seed(0))
    for a, b in zip(
        ours.infer_batch(observations, noise), theirs.infer_batch(observations, noise.clone()), strict=True
    ):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-6)


@pytest.mark.parametrize("to", LAYOUTS)
def test_weights_come_back_to_the_bit(exported: dict[str, Path], to: str) -> None:
    original, written = read_model(TINY_BASE)[0], read_model(exported[to])[0]
    for (name, ours), (other, theirs) in zip(original.named_parameters(), written.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(ours, theirs), name


def test_the_sidecar_tells_where_it_comes_from(exported: dict[str, Path]) -> None:
    facts = read_sidecar(exported["lerobot"])
    assert facts is not None
    weights = hash_file(TINY_BASE / "model.safetensors")
    source = {"path": str(TINY_BASE), "step": 8000, "sha256": weights, "layout": "pi05", "revision": None}
    assert facts["source"] == source
    assert (facts["layout"], facts["dtype"], facts["fps"], facts["prompt_format"]) == (
        "lerobot",
        "float32",
        10,
        "state",
    )
    assert set(facts["files"]) == everything(exported["lerobot"]) - {SIDECAR}
    assert "normalised actions move by up to" in facts["notes"][-1]


@pytest.mark.parametrize(
    ("size", "noted"), [([48, 48], None), ([96, 128], "pictures of 96 × 128 pixels"), (None, "(assumed) pixels")]
)
def test_lerobots_resize_is_measured_where_it_takes_part(tmp_path: Path, size: Any, noted: str | None) -> None:
    """The cameras' sizes are those that the run noted of its data set."""
    source = Path(shutil.copytree(TINY_BASE, tmp_path / "run" / "checkpoints" / "000001"))
    keys = ("observation.images.scene", "observation.images.wrist")
    facts = {"name": "lab/cubes", "camera_sizes": dict.fromkeys(keys, size) if size else {}}
    (tmp_path / "run" / "dataset.json").write_text(json.dumps(facts))
    notes = [
        note for note in export(source, tmp_path / "out", to="lerobot", tell=silent).notes if "resizes pictures" in note
    ]
    assert len(notes) == (noted is not None)
    if noted is not None:
        assert noted in notes[0]
        moved = float(notes[0].rpartition("up to ")[2])
        assert 1e-4 < moved < 1
    stored = read_sidecar(tmp_path / "out")
    assert stored is not None
    assert stored["asset_id"] == "lab/cubes"


def test_a_chain_through_all_layouts_ends_where_it_began(exported: dict[str, Path], tmp_path: Path) -> None:
    """pi05 → openpi → pi05: weights, statistics, names, units; what openpi's files do not tell is in pi05.json."""
    export(exported["openpi"], tmp_path / "back", to="pi05", tell=silent)
    before, after = Policy.load(TINY_BASE).processor, Policy.load(tmp_path / "back").processor
    unknown = {"min": None, "max": None, "count": 0}  # openpi keeps no extremes
    wanted = before.to_dict()
    wanted["state_stats"] |= unknown
    wanted["action_stats"] |= unknown
    assert after.to_dict() == wanted


def test_lerobots_statistics_survive_a_round_trip(exported: dict[str, Path], tmp_path: Path) -> None:
    ours = export(exported["lerobot"], tmp_path / "ours", to="pi05", tell=silent).folder
    back = export(ours, tmp_path / "back", to="lerobot", tell=silent).folder
    for name in everything(exported["lerobot"]):
        if name.endswith(".safetensors") and name != PROBE:
            assert (back / name).read_bytes() == (exported["lerobot"] / name).read_bytes(), name
    configs = [json.loads((folder / "config.json").read_text()) for folder in (back, exported["lerobot"])]
    assert configs[0] == configs[1]


def test_bfloat16_is_measured_and_smaller(exported: dict[str, Path], tmp_path: Path) -> None:
    result = export(TINY_BASE, tmp_path / "half", to="lerobot", dtype="bfloat16", tell=silent)
    facts = read_sidecar(result.folder)
    assert facts is not None
    assert 1e-5 < facts["rounding"]["normalised_actions"] < facts["rounding"]["limit"] == 0.05
    assert result.bytes < sum(path.stat().st_size for path in exported["lerobot"].rglob("*.safetensors"))
    verify(result.folder, tell=silent)  # against its own stored actions to 1e-4, against the source to the limit
    kinds = {str(tensor.dtype) for tensor in load_file(result.folder / "model.safetensors").values()}
    assert kinds == {"torch.float32", "torch.bfloat16"}


def test_rounding_above_its_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pi05.export.limit_for", lambda dtype: 1e-9)
    with pytest.raises(CheckpointError, match="rounding the weights to bfloat16 changes the policy"):
        export(TINY_BASE, tmp_path / "out", to="lerobot", dtype="bfloat16", tell=silent)
    assert list(tmp_path.iterdir()) == []


def test_a_repository_as_the_tokenizers_name(tmp_path: Path) -> None:
    folder = export(TINY_BASE, tmp_path / "out", to="lerobot", tokenizer_name="lab/arm", tell=silent).folder
    assert {"tokenizer.json", "tokenizer_config.json", "tokenizer/tokenizer.json"} <= everything(folder)
    assert '"tokenizer_name": "lab/arm"' in (folder / "policy_preprocessor.json").read_text()
    assert relocate(folder) == []  # a repository's name is no path


# --- adapters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", LAYOUTS)
def test_adapters_are_merged_and_the_difference_is_stored(lora_run: Path, tmp_path: Path, to: Any) -> None:
    result = export(lora_run, tmp_path / "out", to=to, tell=silent)
    assert result.merge is not None
    assert 0 <= result.merge["normalised_actions"] < 1e-5
    facts = read_sidecar(result.folder)
    assert facts is not None
    assert facts["merge"] == dict(result.merge)
    assert facts["source"]["step"] == 12
    assert "adapter_config.json" not in everything(result.folder)
    probe = make_probe(Policy.load(TINY_BASE).processor)
    unmerged = open_source(lora_run, merge=False).policy
    assert lora_modules(unmerged.model)
    written = Policy.load(result.folder)
    difference = compare(ask(written, probe), ask(unmerged, probe), unmerged.processor)
    assert not difference.exceeds(1e-5)
    base = ask(Policy.load(TINY_BASE), probe)
    assert compare(ask(written, probe), base, unmerged.processor).normalized > 1e-2  # the adapter does something


def test_a_merge_that_changes_the_policy_is_refused(
    lora_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge that forgets one adapter, as a wrong scaling or a missed module would."""
    merge = checks.merge_lora

    def forgetful(model: Any) -> None:
        with torch.no_grad():
            next(iter(lora_modules(model).values())).lora_b.zero_()
        merge(model)

    monkeypatch.setattr(checks, "merge_lora", forgetful)
    with pytest.raises(CheckpointError, match="merging the adapters changes the policy; nothing was written") as caught:
        export(lora_run, tmp_path / "out", to="pi05", tell=silent)
    assert "0.0001" in str(caught.value.wanted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", ["lerobot", "pi05"])
def test_an_adapter_alone(lora_run: Path, tmp_path: Path, to: Any) -> None:
    result = export(lora_run, tmp_path / "out", to=to, adapter_only=True, tell=silent)
    names = everything(result.folder)
    assert {"adapter_config.json", "adapter_model.safetensors", "config.json", SIDECAR, PROBE} <= names
    assert "model.safetensors" not in names
    written = (result.folder / "adapter_model.safetensors").read_bytes()
    assert written == (lora_run / "adapter_model.safetensors").read_bytes()
    adapter = json.loads((result.folder / "adapter_config.json").read_text())
    base = lora_run.parent.parent / "base"
    assert adapter["base_model_name_or_path"] == str(base)
    facts = read_sidecar(result.folder)
    assert facts is not None
    assert (facts["layout"], facts["merge"]) == (f"{to}-adapter", None)
    assert facts["base"] == {"path": str(base), "sha256": hash_file(base / "model.safetensors")}
    verification = verify(result.folder, tell=silent)
    assert verification.source is not None
    if to == "lerobot":
        assert json.loads((result.folder / "config.json").read_text())["use_peft"] is True
        assert "only in its own layout" in " ".join(result.notes)


def test_an_adapter_with_another_base_is_noticed(lora_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(lora_run.parent.parent, tmp_path / "run"))
    out = export(run / "checkpoints" / "000012", tmp_path / "out", to="lerobot", adapter_only=True, tell=silent).folder
    weights = run / "base" / "model.safetensors"
    tensors = load_file(weights)
    tensors["action_out.bias"] += 1e-3
    save_file(tensors, weights)
    with pytest.raises(CheckpointError, match="not the one that the adapter was trained on"):
        verify(out, tell=silent)


def test_the_bases_name_is_the_users(lora_run: Path, tmp_path: Path) -> None:
    out = export(lora_run, tmp_path / "o", to="lerobot", adapter_only=True, base_name="lab/base", tell=silent).folder
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "lab/base"
    (line,) = relocate(out, base_name="/elsewhere/base")
    assert line == "adapter_config.json: base lab/base → /elsewhere/base"
    verify(out, tell=silent)  # the base is found where pi05.json says


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "openpi", "adapter_only": True}, "no adapters"),
        ({"to": "pi05", "adapter_only": True, "dtype": "bfloat16"}, "copied as it is"),
        ({"to": "openpi", "tokenizer_name": "a/b"}, "only LeRobot names"),
        ({"to": "lerobot", "asset_id": "arm"}, "openpi's statistics"),
        ({"to": "openpi", "asset_id": "../arm"}, "asset id"),
        ({"to": "lerobot", "base_name": "a/b"}, "for --adapter_only"),
        ({"to": "lerobot", "dtype": "float16"}, "precision is unknown"),
        ({"to": "lerobot", "adapter_only": True}, "no adapter to export"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        export(TINY_BASE, tmp_path / "out", tell=silent, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_policy_that_lerobot_cannot_be(tmp_path: Path) -> None:
    source = Path(shutil.copytree(TINY_BASE, tmp_path / "source"))
    config = json.loads((source / "config.json").read_text())
    config["processor"]["prompt_format"] = "none"
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="LeRobot cannot run this policy"):
        export(source, tmp_path / "out", to="lerobot", tell=silent)
    assert not (tmp_path / "out").exists()
    note = export(source, tmp_path / "out", to="openpi", tell=silent).folder / "OPENPI.md"
    assert "discrete_state_input=False" in note.read_text()


def test_what_is_there_stays(copy: Path) -> None:
    before = {name: hash_file(copy / name) for name in everything(copy)}
    with pytest.raises(CheckpointError, match="exists already"):
        export(TINY_BASE, copy, to="lerobot", tell=silent)
    assert {name: hash_file(copy / name) for name in everything(copy)} == before


@pytest.fixture
def small_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("to", LAYOUTS)
def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, to: Any) -> None:
    with pytest.raises(CheckpointError, match="nothing of it is left"):
        export(TINY_BASE, tmp_path / "out", to=to, tell=silent)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        if line.startswith("files"):  # all is written, and the proof begins
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(TINY_BASE, tmp_path / "out", to="lerobot", tell=interrupt)
    assert list(tmp_path.iterdir()) == []


# --- verify and relocate ----------------------------------------------------------------------------------------------


def spoil(folder: Path, forge: bool) -> None:
    """Change one weight; with `forge` also its recorded hash."""
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.time_mlp_out.bias"][0] += 0.05
    save_file(tensors, weights, {"format": "pt"})
    if forge:
        facts = read_sidecar(folder)
        assert facts is not None
        facts["files"]["model.safetensors"] = {"sha256": hash_file(weights), "bytes": weights.stat().st_size}
        write_sidecar(folder, facts)


def test_an_untouched_folder_is_verified(copy: Path) -> None:
    lines: list[str] = []
    (copy / "README.md").write_text("a card that came later")
    verification = verify(copy, tell=lines.append)
    assert verification.stored.normalized == 0
    assert verification.source is not None
    assert len(lines) == 3
    assert "limit 0.0001" in lines[1]


def test_one_changed_weight_shows_in_the_hash_and_in_the_actions(copy: Path) -> None:
    spoil(copy, forge=False)
    with pytest.raises(CheckpointError, match="not as it was exported") as caught:
        verify(copy, tell=silent)
    assert caught.value.found == "model.safetensors has another content"
    spoil(copy, forge=True)
    with pytest.raises(CheckpointError, match="does not give the actions that are stored") as caught:
        verify(copy, tell=silent)
    assert "0.0001" in str(caught.value.wanted)
    assert "normalised actions by" in str(caught.value.found)


def test_other_statistics_show_in_the_actions(copy: Path) -> None:
    name = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"
    pre = "policy_preprocessor_step_3_normalizer_processor.safetensors"
    facts = read_sidecar(copy)
    assert facts is not None
    for file in (name, pre):
        tensors = load_file(copy / file)
        tensors["action.q99"] += 0.01
        save_file(tensors, copy / file)
        facts["files"][file] = {"sha256": hash_file(copy / file), "bytes": (copy / file).stat().st_size}
    write_sidecar(copy, facts)
    with pytest.raises(CheckpointError, match="does not give the actions that are stored") as caught:
        verify(copy, tell=silent)
    assert "normalised actions by 0," in str(caught.value.found)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / PROBE).write_bytes(b"x"), "has 1 bytes"),
        (lambda folder: (folder / SIDECAR).unlink(), "nothing to verify against"),
        (lambda folder: shutil.rmtree(folder), "nothing to verify against"),
    ],
)
def test_a_damaged_folder_is_named(copy: Path, damage: Any, message: str) -> None:
    damage(copy)
    with pytest.raises(CheckpointError, match=message):
        verify(copy, tell=silent)


def test_a_damaged_probe_is_an_error(copy: Path) -> None:
    save_file({"states": torch.zeros(1, 3)}, copy / PROBE)
    with pytest.raises(CheckpointError, match="stored probe cannot be read"):
        read_probe(copy, ["go"])


def test_another_source_shows(copy: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(TINY_BASE, tmp_path / "source"))
    assert verify(copy, source=source, tell=silent).source is not None
    tensors = load_file(source / "model.safetensors")
    tensors["action_out.bias"] += 1e-3
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(CheckpointError, match="does not give the actions of"):
        verify(copy, source=source, tell=silent)


@pytest.mark.parametrize("gone", [True, False])
def test_a_source_that_is_gone_or_went_on_is_told(tmp_path: Path, gone: bool) -> None:
    source = Path(shutil.copytree(TINY_BASE, tmp_path / "source"))
    out = export(source, tmp_path / "out", to="pi05", tell=silent).folder
    if gone:
        shutil.rmtree(source)
    else:
        tensors = load_file(source / "model.safetensors")
        tensors["action_out.bias"] += 1e-3
        save_file(tensors, source / "model.safetensors")
    verification = verify(out, tell=silent)
    assert verification.source is None
    assert ("not there" if gone else "other weights by now") in verification.notes[0]


def test_a_moved_folder_is_relocated_and_stays_verified(copy: Path, tmp_path: Path) -> None:
    moved = copy.rename(tmp_path / "moved")
    (line,) = relocate(moved)
    assert line.endswith(f"→ {moved / 'tokenizer'}")
    assert relocate(moved) == []
    verify(moved, tell=silent)
    assert Tokenizer.load(json.loads((moved / "policy_preprocessor.json").read_text())["steps"][5]["config"][
        "tokenizer_name"
    ])  # fmt: skip


@pytest.mark.parametrize("path", ["openpi", "nowhere"])
def test_only_lerobots_folders_have_paths(exported: dict[str, Path], path: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no paths to rewrite"):
        relocate(exported.get(path, tmp_path / path))


# --- the probe --------------------------------------------------------------------------------------------------------


def test_the_probe_is_the_same_every_time_and_feels_every_input() -> None:
    policy = Policy.load(TINY_BASE)
    probe, again = make_probe(policy.processor), make_probe(policy.processor)
    assert np.array_equal(probe.pictures, again.pictures)
    assert torch.equal(probe.noise, again.noise)
    answer = ask(policy, probe)
    assert not compare(ask(policy, again), answer, policy.processor).exceeds(0)
    for camera in range(probe.pictures.shape[1]):
        pictures = probe.pictures.copy()
        pictures[:, camera] = 255 - pictures[:, camera]
        moved = compare(ask(policy, replace(probe, pictures=pictures)), answer, policy.processor)
        assert moved.normalized > 1e-3, camera
    assert compare(ask(policy, replace(probe, states=probe.states * 0.9)), answer, policy.processor).tokens > 0


def test_nan_is_not_equal_to_anything() -> None:
    policy = Policy.load(TINY_BASE)
    answer = ask(policy, make_probe(policy.processor))
    broken = replace(answer, normalized=np.full_like(answer.normalized, np.nan))
    assert compare(broken, answer, policy.processor).exceeds(1e9)
