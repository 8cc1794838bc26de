"""Orbax folders, written here with tensorstore in the ways that orbax knows: whole or a missing piece at a time."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import torch
from mutations import survive

from pi05.checkpoint.load import load_model, read_model
from pi05.checkpoint.locate import locate
from pi05.checkpoint.openpi.jax_names import jax_layout
from pi05.checkpoint.openpi.orbax import OrbaxFiles, holds_params, is_orbax
from pi05.errors import CheckpointError
from pi05.model.pi05 import Pi05


def write(
    folder: Path,
    arrays: dict[str, np.ndarray],
    *,
    ocdbt: bool = True,
    driver: str = "zarr",
    suffix: str = ".value",
    prefix: str = "params.",
    split_layers: bool = False,
    dtype: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> Path:
    """Write arrays as orbax does; `split_layers` gives each index of the first axis a chunk of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"driver": "file", "path": f"{folder}/"}
    context, transaction = tensorstore.Context(), tensorstore.Transaction(atomic=False)
    for name, value in arrays.items():
        key = f"{prefix}{name.replace('/', '.')}{suffix}/"
        store = {"driver": "ocdbt", "base": files, "path": key} if ocdbt else {**files, "path": files["path"] + key}
        chunks = [1, *value.shape[1:]] if split_layers and value.ndim > 1 else list(value.shape)
        kind = dtype or str(value.dtype)
        if driver == "zarr":
            kind = {"float32": "<f4", "int32": "<i4"}.get(kind, kind)
            described: dict[str, Any] = {"shape": list(value.shape), "chunks": chunks, "dtype": kind,
                                         "compressor": {"id": "zstd", "level": 1}}  # fmt: skip
        else:
            grid = {"name": "regular", "configuration": {"chunk_shape": chunks}}
            described = {"shape": list(value.shape), "chunk_grid": grid, "data_type": kind}
        spec = {"driver": driver, "kvstore": store, "metadata": described}
        array = tensorstore.open(spec, create=True, context=context, transaction=transaction).result()
        array.write(value.astype(array.dtype.numpy_dtype)).result()
    transaction.commit_sync()
    if metadata is not None:
        (folder / "_METADATA").write_text(json.dumps(metadata))
    return folder


@pytest.fixture
def params(tmp_path, jax_arrays) -> Path:
    """A released folder's params/, and the folder around it."""
    return write(tmp_path / "step" / "params", jax_arrays)


def same(model: Pi05, weights: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(parameter, weights[name]) for name, parameter in model.named_parameters())


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"split_layers": True},
        {"suffix": ""},
        {"prefix": ""},
        {"ocdbt": False, "metadata": {"tree_metadata": {}}},
        {"driver": "zarr3"},
        {"driver": "zarr3", "split_layers": True, "ocdbt": False, "metadata": {}},
    ],
)
def test_every_way_of_writing_gives_the_same_network(tmp_path, jax_arrays, weights, config, how):
    write(tmp_path / "step" / "params", jax_arrays, **how)
    model, receipt = read_model(locate(tmp_path / "step"), config=config)
    assert same(model, weights)
    assert receipt.layout == "openpi JAX"
    files = [path for path in (tmp_path / "step" / "params").rglob("*") if path.is_file()]
    assert receipt.bytes == sum(path.stat().st_size for path in files)
    assert receipt.files == {
        path.relative_to(tmp_path / "step" / "params").as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_bfloat16_leaves(tmp_path, jax_arrays, weights, config):
    write(tmp_path / "params", jax_arrays, dtype="bfloat16")
    rounded = {name: tensor.bfloat16().float() for name, tensor in weights.items()}
    assert same(load_model(tmp_path, config=config), rounded)
    model = load_model(tmp_path, config=config, dtype=torch.bfloat16)
    assert torch.equal(model.embedding.weight, weights["embedding.weight"].bfloat16())


def test_opening_reads_no_values(tmp_path, jax_arrays):
    """Shapes are there when the values are junk."""
    folder = write(tmp_path / "params", jax_arrays, ocdbt=False, metadata={})
    for chunk in folder.glob("*/[0-9]*"):
        chunk.write_bytes(b"junk")
    files = OrbaxFiles(folder)
    assert files.shapes == {name: value.shape for name, value in jax_arrays.items()}
    with pytest.raises(CheckpointError, match="cannot be read"):
        files.read("time_mlp_in/bias")


@pytest.mark.parametrize("split_layers", [False, True])
def test_parts(tmp_path, split_layers):
    value = np.arange(4 * 2 * 3 * 5, dtype=np.float32).reshape(4, 2, 3, 5)
    files = OrbaxFiles(write(tmp_path / "params", {"a/w": value}, split_layers=split_layers))
    indices = [(layer, part) for layer in range(4) for part in range(2)]
    for index, part in zip(indices, files.parts("a/w", indices), strict=True):
        assert np.array_equal(part.numpy(), value[index])
    assert np.array_equal(files.read("a/w").numpy(), value)


def test_train_state_without_weights_says_so(tmp_path):
    entry = {"key_metadata": [{"key": "params", "key_type": 2}]}
    leaf = {"key_metadata": [{"key": "params", "key_type": 2}, {"key": "time_mlp_in", "key_type": 2}]}
    for tree, holds in (({"('params',)": entry}, False), ({"a": leaf}, True), ({}, False)):
        (tmp_path / "_METADATA").write_text(json.dumps({"tree_metadata": tree}))
        assert holds_params(tmp_path) == holds
    for damaged in ("", "[]", '{"tree_metadata": {"a": {}}}'):
        (tmp_path / "_METADATA").write_text(damaged)
        with pytest.raises(CheckpointError, match="cannot be read") as caught:
            holds_params(tmp_path)
        assert str(tmp_path) in str(caught.value)


def test_newest_step_of_an_experiment(tmp_path, jax_arrays, weights, config):
    changed = {name: value + 1 for name, value in jax_arrays.items()}
    write(tmp_path / "exp" / "900" / "params", changed)
    write(tmp_path / "exp" / "1000" / "params", jax_arrays)
    (tmp_path / "exp" / "2000.orbax-checkpoint-tmp-1").mkdir()
    (tmp_path / "exp" / "3000").mkdir()
    model, receipt = read_model(locate(tmp_path / "exp"), config=config)
    assert same(model, weights)
    assert receipt.source == str(tmp_path / "exp" / "1000")


def test_the_optimizer_is_named_and_not_read(tmp_path, jax_arrays, config, weights):
    folder = tmp_path / "6" / "train_state"
    write(folder, jax_arrays)
    moments = {f"mu.{name}": value for name, value in list(jax_arrays.items())[:3]}
    leaf = {"key_metadata": [{"key": "params", "key_type": 2}, {"key": "x", "key_type": 2}]}
    write(folder, moments, prefix="opt_state.1.0.", metadata={"tree_metadata": {"leaf": leaf}})
    write(folder, {"step": np.array([7], dtype=np.int32)}, prefix="", suffix="")
    write(tmp_path / "6" / "params", {name: value * 2 for name, value in jax_arrays.items()})
    model, receipt = read_model(locate(tmp_path / "6", "raw"), config=config)
    assert same(model, weights)
    assert receipt.ignored == {
        "opt_state": "3 array(s) of training state, not weights",
        "step": "1 array(s) of training state, not weights",
    }


def test_raw_weights_that_are_not_there(params, files):
    with pytest.raises(CheckpointError, match="holds no raw weights") as caught:
        load_model(params.parent, weights="raw")
    assert "train_state" in str(caught.value)
    with pytest.raises(CheckpointError, match="only openpi's JAX checkpoints"):
        load_model(files["pi05"], weights="raw")


def test_a_step_without_params(tmp_path, jax_arrays):
    write(tmp_path / "6" / "train_state", jax_arrays, metadata={"tree_metadata": {}})
    with pytest.raises(CheckpointError, match="JAX checkpoint is incomplete") as caught:
        load_model(tmp_path / "6")
    assert str(tmp_path / "6" / "params") in str(caught.value)


# Damage


def pieces(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json")


@pytest.mark.parametrize("damage", ["missing", "half", "empty"])
def test_every_damaged_file_is_an_error_or_unused(tmp_path, params, jax_arrays, weights, config, damage):
    """Nothing but the true weights ever comes out, whichever file is hurt; and the file with the values is noticed."""
    outcomes = []
    for piece in pieces(params):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(params.parent, copy)
        victim = copy / "params" / piece.relative_to(params)
        if damage == "missing":
            victim.unlink()
        else:
            victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2 if damage == "half" else 0])
        refused = None
        try:
            model = load_model(copy, config=config)
        except CheckpointError as error:
            refused = error
            outcomes.append(piece.stat().st_size)
        assert str(copy) in str(refused) if refused else same(model, weights)
    assert outcomes
    assert max(piece.stat().st_size for piece in pieces(params)) in outcomes


@pytest.mark.parametrize("promised", [True, False, None])
def test_missing_chunks(tmp_path, promised):
    """tensorstore reads an absent chunk as zeros; that is right only where the writer leaves zeros out."""
    value = np.ones((3, 4), dtype=np.float32)
    metadata = None if promised is None else {"store_array_data_equal_to_fill_value": promised}
    folder = write(tmp_path, {"a": value}, ocdbt=False, split_layers=True, metadata=metadata)
    (folder / "params.a.value" / "1.0").unlink()
    if promised:
        with pytest.raises(CheckpointError, match=r"chunks are missing: a \(1\)"):
            OrbaxFiles(folder)
    else:
        files = OrbaxFiles(folder)
        assert files.notes == ["chunks that orbax left out as zeros: a (1)"]
        assert files.read("a").sum() == 8


def test_values_that_are_no_weights(tmp_path, jax_arrays, config):
    for spoiled, message in ((np.nan, "not finite"), (np.inf, "not finite")):
        arrays = {name: value.copy() for name, value in jax_arrays.items()}
        arrays["time_mlp_out/kernel"][1, 2] = spoiled
        write(tmp_path / message / str(spoiled) / "params", arrays)
        with pytest.raises(CheckpointError, match=f"tensor time_mlp_out/kernel is {message}"):
            load_model(tmp_path / message / str(spoiled), config=config)
    files = OrbaxFiles(write(tmp_path / "integers", {"a": np.ones(3, dtype=np.int32)}))
    with pytest.raises(CheckpointError, match="does not hold weights"):
        files.read("a")


def test_a_leaf_too_few_or_too_many(tmp_path, jax_arrays, config):
    missing = {name: value for name, value in jax_arrays.items() if name != "time_mlp_out/kernel"}
    write(tmp_path / "missing" / "params", missing)
    with pytest.raises(CheckpointError, match="1 missing: time_mlp_out/kernel"):
        load_model(tmp_path / "missing", config=config)
    write(tmp_path / "surplus" / "params", {**jax_arrays, "surplus/kernel": np.ones((2, 2), np.float32)})
    with pytest.raises(CheckpointError, match="1 unexpected: surplus/kernel"):
        load_model(tmp_path / "surplus", config=config)
    write(tmp_path / "twice" / "params", jax_arrays)
    write(tmp_path / "twice" / "params", {"time_mlp_out/kernel": np.ones((2, 2), np.float32)}, suffix="")
    with pytest.raises(CheckpointError, match="two arrays for the leaf time_mlp_out/kernel"):
        load_model(tmp_path / "twice", config=config)


def test_an_empty_folder_of_orbax(tmp_path):
    (tmp_path / "_METADATA").write_text("{}")
    assert is_orbax(tmp_path)
    with pytest.raises(CheckpointError, match="no arrays in it"):
        OrbaxFiles(tmp_path)


def test_git_lfs_pointers(params):
    for path in params.rglob("d/*"):
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + "ab" * 32 + "\nsize 7481485688\n")
    with pytest.raises(CheckpointError, match="Git-LFS pointer") as caught:
        OrbaxFiles(params)
    assert "git lfs pull" in caught.value.remedy


def test_without_tensorstore(params, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(CheckpointError, match="package that is not installed") as caught:
        load_model(params.parent)
    assert caught.value.remedy.startswith("pip install 'tensorstore>=")


def test_layout_of_the_fixture(config, jax_arrays):
    assert set(jax_arrays) == set(jax_layout(config).targets)


@pytest.mark.parametrize(("driver", "name"), [("zarr", ".zarray"), ("zarr3", "zarr.json")])
def test_what_describes_an_array_damaged_in_one_place(driver: str, name: str, tmp_path: Path) -> None:
    folder = write(tmp_path, {"w": np.ones((4, 3), np.float32)}, ocdbt=False, driver=driver, metadata={})
    (file,) = folder.rglob(name)
    assert min(survive(file, lambda _: OrbaxFiles(folder).shapes, "orbax", 100)) > 5


def test_the_tree_of_an_item_damaged_in_one_place(tmp_path: Path) -> None:
    tree = {
        "('params', 'w')": {"key_metadata": [{"key": "params", "key_type": 2}, {"key": "w", "key_type": 2}]},
        "('opt_state', 0)": {"key_metadata": [{"key": "opt_state", "key_type": 2}, {"key": 0, "key_type": 1}]},
    }
    file = tmp_path / "_METADATA"
    file.write_text(json.dumps({"tree_metadata": tree, "store_array_data_equal_to_fill_value": True}))
    assert min(survive(file, holds_params, "tree", 100)) > 5
