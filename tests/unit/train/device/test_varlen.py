"""Where packed keys can be tried, and PyTorch's own function for them."""

from __future__ import annotations

import inspect

import pytest
import torch

from pi05.model.layers import attend
from pi05.model.packed_keys import PackedKeys
from pi05.train.device.varlen import flash_varlen, why_no_varlen


def test_a_cpu_has_no_kernel() -> None:
    assert why_no_varlen(torch.device("cpu"), torch.bfloat16, 256) == "only GPUs have the kernel"


@pytest.mark.parametrize(
    ("capability", "dtype", "head_dim", "reason"),
    [
        ((9, 0), torch.bfloat16, 256, None),
        ((12, 0), torch.bfloat16, 256, None),
        ((8, 0), torch.float32, 256, "the kernel does not take float32"),
        ((7, 5), torch.float16, 64, "flash attention does not run on this GPU with heads of this width"),
        ((9, 0), torch.bfloat16, 512, "flash attention does not run on this GPU with heads of this width"),
    ],
)
def test_which_gpus_have(
    capability: tuple[int, int],
    dtype: torch.dtype,
    head_dim: int,
    reason: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert why_no_varlen(torch.device("cuda"), dtype, head_dim) == reason


def test_an_old_pytorch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "2.10 is the first" in str(why_no_varlen(torch.device("cuda"), torch.bfloat16, 256))


def test_pytorchs_function_takes_what_it_is_given() -> None:
    """Its names and their order; on `meta`, which has no kernel, shapes and gradients are there all the same."""
    varlen_attn = pytest.importorskip("torch.nn.attention.varlen").varlen_attn
    names = list(inspect.signature(varlen_attn).parameters)
    assert names[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    varlen = flash_varlen()
    assert varlen.grouped == ("enable_gqa" in names)
    heads = 4 if varlen.grouped else 1
    query = torch.empty(10, heads, 8, device="meta", dtype=torch.bfloat16, requires_grad=True)
    key, value = (torch.empty(6, 1, 8, device="meta", dtype=torch.bfloat16, requires_grad=True) for _ in range(2))
    starts = torch.empty(3, device="meta", dtype=torch.int32)
    seen = varlen.kernel(query, key, value, starts, starts, 5, 4)
    assert seen.shape == query.shape
    gradients = torch.autograd.grad(seen.float().sum(), (query, key, value))
    assert [each.shape for each in gradients] == [query.shape, key.shape, value.shape]


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_pytorchs_function_is_traced_whole_whatever_the_lengths() -> None:
    """On `meta`, forward and backward: one graph, made general at the second length, and none after it."""
    pytest.importorskip("torch.nn.attention.varlen")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    varlen, graphs = flash_varlen(), []
    traced = torch.compile(attend, backend="aot_eager", fullgraph=True)

    def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.empty(shape, device="meta", dtype=dtype, requires_grad=dtype.is_floating_point)

    for length, counted in ((20, 50), (24, 60), (28, 61), (32, 80)):
        query, *rest = empty(3, length, 8, 64), empty(3, length, 1, 64), empty(3, length, 1, 64)
        starts = empty(4, dtype=torch.int32)
        keys = PackedKeys(empty(counted, dtype=torch.int64), starts, starts, varlen)
        seen = traced(query, *(each.transpose(1, 2) for each in rest), keys)
        assert seen.shape == (3, length, 512)
        assert all(each.shape for each in torch.autograd.grad(seen.float().sum(), (query, *rest)))
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs == [1, 2, 2, 2]
