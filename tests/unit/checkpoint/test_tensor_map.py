from __future__ import annotations

import pytest
import torch

from pi05.checkpoint.tensor_map import TensorLayout, TensorTarget


def swap(tensor):
    return tensor.T


STACKED = TensorLayout(
    "stacked",
    {
        "both": tuple(TensorTarget(name, (i // 2, i % 2), swap, swap) for i, name in enumerate("abcd")),
        "alone": (TensorTarget("e"),),
    },
)


def test_parts_are_put_together_and_taken_apart():
    ours = {name: torch.randn(2, 3) for name in "abcd"} | {"e": torch.randn(4)}
    foreign = STACKED.to_foreign(ours)
    assert foreign["both"].shape == (2, 2, 3, 2)
    assert torch.equal(foreign["both"][1, 0], ours["c"].T)
    assert torch.equal(foreign["alone"], ours["e"])
    back = STACKED.to_ours(foreign)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)


def test_shapes_need_no_memory():
    shapes = dict.fromkeys("abcd", (2_000_000, 3_000_000)) | {"e": (4,)}
    assert STACKED.foreign_shapes(shapes) == {"both": (2, 2, 3_000_000, 2_000_000), "alone": (4,)}


def test_a_parameter_mapped_twice_is_refused():
    with pytest.raises(ValueError, match="mapped twice"):
        TensorLayout("bad", {"x": (TensorTarget("a"),), "y": (TensorTarget("a"),)})
