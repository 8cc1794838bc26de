from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pi05.checkpoint.tensors import TensorFiles, combine_hashes
from pi05.errors import CheckpointError


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"a": torch.randn(200, 30, generator=generator), "b": torch.randn(7, generator=generator).bfloat16()}


def write(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".npz":
        np.savez_compressed(path, **{name: tensor.float().numpy() for name, tensor in tensors.items()})
    else:
        save_file(tensors, path)
    return path


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz"])
def test_reading(tmp_path, tensors, name):
    files = TensorFiles([write(tmp_path / name, tensors)])
    assert files.shapes == {"a": (200, 30), "b": (7,)}
    for key, tensor in tensors.items():
        assert torch.equal(files.read(key).float(), tensor.float())
    assert files.bytes == (tmp_path / name).stat().st_size


def test_several_files(tmp_path, tensors):
    paths = [write(tmp_path / f"{name}.safetensors", {name: tensor}) for name, tensor in tensors.items()]
    files = TensorFiles(paths)
    assert files.shapes.keys() == tensors.keys()
    hashes = files.hashes()
    assert hashes["a.safetensors"] == hashlib.sha256(paths[0].read_bytes()).hexdigest()
    lines = "\n".join(f"{name} {hashes[name]}" for name in sorted(hashes))
    assert combine_hashes(hashes) == hashlib.sha256(lines.encode()).hexdigest()
    assert combine_hashes({"x": "abc"}) == "abc"


def test_a_tensor_in_two_files(tmp_path, tensors):
    paths = [write(tmp_path / name, tensors) for name in ("one.safetensors", "two.safetensors")]
    with pytest.raises(CheckpointError, match="twice"):
        TensorFiles(paths)


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98])
def test_a_truncated_file(tmp_path, tensors, name, share):
    path = write(tmp_path / name, tensors)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match="damaged, cut short") as caught:
        TensorFiles([path])
    assert str(path) in str(caught.value)


def test_a_damaged_member_of_an_archive(tmp_path, tensors):
    """The archive's own list is intact; the checksum of the content is not."""
    path = tmp_path / "w.npz"
    np.savez(path, a=tensors["a"].numpy())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    files = TensorFiles([path])
    with pytest.raises(CheckpointError, match="damaged"):
        files.read("a")


def test_not_a_weight_file(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"<html>404</html>" * 100)
    with pytest.raises(CheckpointError, match="not what its name says"):
        TensorFiles([path])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite(tmp_path, tensors, value):
    tensors["a"][3, 4] = value
    files = TensorFiles([write(tmp_path / "w.safetensors", tensors)])
    with pytest.raises(CheckpointError, match="tensor a is not finite") as caught:
        files.read("a")
    assert "1 of 6000" in str(caught.value)


def test_integers_are_no_weights(tmp_path):
    files = TensorFiles([write(tmp_path / "w.safetensors", {"a": torch.ones(3, dtype=torch.int8)})])
    with pytest.raises(CheckpointError, match="does not hold weights"):
        files.read("a")


def test_a_git_lfs_pointer_is_named(tmp_path):
    """What git clone leaves without git-lfs: about 130 bytes of text in the place of the weights."""
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + "ab" * 32 + "\nsize 7481485688\n")
    with pytest.raises(CheckpointError, match=r"Git-LFS pointer of 13\d bytes") as caught:
        TensorFiles([path])
    assert "git lfs pull" in caught.value.remedy


def test_an_empty_file_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    path.touch()
    with pytest.raises(CheckpointError, match=r"empty \(0 bytes\)"):
        TensorFiles([path])


def test_parts(tmp_path, tensors):
    files = TensorFiles([write(tmp_path / "w.safetensors", tensors)])
    assert torch.equal(next(files.parts("a", [()])), tensors["a"])
    rows = list(files.parts("a", [(0,), (7,)]))
    assert [row.shape for row in rows] == [(30,), (30,)]
    assert torch.equal(rows[1], tensors["a"][7])
