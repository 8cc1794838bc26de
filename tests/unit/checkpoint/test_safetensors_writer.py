"""The streaming writer: the same bytes as the library's, one tensor at a time, all or nothing."""

from __future__ import annotations

import gc
import hashlib
import weakref
from pathlib import Path

import pytest
import torch
from full_disk import largest_file
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from pi05.checkpoint.safetensors_writer import LazyTensor, file_bytes, write_safetensors

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)
contents = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8),
    st.tuples(shapes, st.sampled_from(DTYPES)),
    max_size=8,
)


@given(contents)
def test_bytes_are_those_of_the_library(tmp_path_factory: pytest.TempPathFactory, content: dict) -> None:
    content.pop("__metadata__", None)
    folder = tmp_path_factory.mktemp("writer")
    tensors = {name: torch.randn(shape).to(dtype) for name, (shape, dtype) in content.items()}
    save_file(tensors, folder / "library.safetensors", metadata={"format": "pt"})
    lazy = {name: LazyTensor.of(tensor) for name, tensor in reversed(tensors.items())}
    facts = write_safetensors(folder / "ours.safetensors", lazy, {"format": "pt"})
    written = (folder / "ours.safetensors").read_bytes()
    assert written == (folder / "library.safetensors").read_bytes()
    assert facts == {"sha256": hashlib.sha256(written).hexdigest(), "bytes": len(written)}
    assert file_bytes(lazy, {"format": "pt"}) == len(written)


def test_the_library_reads_what_was_cast_and_transposed(tmp_path: Path) -> None:
    tensor = torch.arange(6.0).reshape(2, 3).T
    write_safetensors(tmp_path / "a.safetensors", {"x": LazyTensor((3, 2), torch.bfloat16, lambda: tensor)})
    assert torch.equal(load_file(tmp_path / "a.safetensors")["x"], tensor.to(torch.bfloat16))


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path) -> None:
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def make() -> Tensor:
        nonlocal most
        gc.collect()
        tensor = torch.ones(1000)
        alive.append(weakref.ref(tensor))
        most = max(most, sum(reference() is not None for reference in alive))
        return tensor

    write_safetensors(tmp_path / "a.safetensors", {f"t{i}": LazyTensor((1000,), torch.float32, make) for i in range(6)})
    assert most <= 2  # the one being written is let go of when the next is made


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: torch.ones(3), r"is \[3\], not \[2\]"), (lambda: torch.tensor([1.0, float("nan")]), "NaN or infinite")],
)
def test_a_wrong_tensor_leaves_the_old_file(tmp_path: Path, make, message: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"old")
    with pytest.raises(ValueError, match=message):
        write_safetensors(tmp_path / "a.safetensors", {"x": LazyTensor((2,), torch.float32, make)})
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_value_too_large_for_half_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="infinite"):
        write_safetensors(tmp_path / "a.safetensors", {"x": LazyTensor.of(torch.tensor([1e6]), torch.float16)})


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path) -> None:
    with largest_file(2**20), pytest.raises(OSError, match="large"):
        write_safetensors(tmp_path / "a.safetensors", {"x": LazyTensor.of(torch.ones(2**20))})
    assert list(tmp_path.iterdir()) == []
