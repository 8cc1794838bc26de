from __future__ import annotations

import pytest
import torch

from pi05.model.layers import Linear, attend, key_bias


def reference(query, key, value, valid):
    """Attention written out: repeat the keys for the queries' heads, mask, softmax, sum."""
    groups = query.shape[2] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = torch.einsum("bqnh,bnkh->bnqk", query, key) / query.shape[-1] ** 0.5
    if valid is not None:
        scores = scores.masked_fill(~valid[:, None, None, :], float("-inf"))
    return torch.einsum("bnqk,bnkh->bqnh", scores.softmax(dim=-1), value).flatten(2)


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_grouped_heads(kv_heads, masked):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 5, 6, 8, generator=generator)
    key, value = (torch.randn(2, kv_heads, 7, 8, generator=generator) for _ in range(2))
    valid = torch.tensor([[True] * 4 + [False] * 3, [True] * 7]) if masked else None
    bias = key_bias(valid, torch.float32)
    assert torch.allclose(attend(query, key, value, bias), reference(query, key, value, valid), atol=1e-6)


def test_masked_keys_do_not_matter():
    query, key, value = torch.randn(1, 3, 2, 4), torch.randn(1, 1, 5, 4), torch.randn(1, 1, 5, 4)
    valid = torch.tensor([[True, False, True, True, False]])
    kept = valid[0]
    masked = attend(query, key, value, key_bias(valid, torch.float32))
    assert torch.allclose(masked, attend(query, key[:, :, kept], value[:, :, kept], None), atol=1e-6)


@pytest.mark.parametrize("length", [5, 16, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_is_one_aligned_row_per_sample(length, dtype):
    valid = torch.rand(3, length, generator=torch.Generator().manual_seed(length)) < 0.5
    bias = key_bias(valid, dtype)
    assert bias.shape == (3, 1, 1, length)
    assert bias.dtype == dtype
    assert torch.equal(bias[:, 0, 0] == 0, valid)
    assert torch.equal(bias[:, 0, 0] == float("-inf"), ~valid)
    assert all(stride % 16 == 0 for stride in bias.stride()[:-1])
    assert key_bias(None, dtype) is None


def test_linear_computes_in_the_precision_of_its_input():
    linear = Linear(4, 3)
    x = torch.randn(2, 4)
    assert torch.equal(linear(x), torch.nn.functional.linear(x, linear.weight, linear.bias))
    low = linear(x.bfloat16())
    assert low.dtype == torch.bfloat16
    assert linear.weight.dtype == torch.float32
    product = torch.nn.functional.linear(x.bfloat16(), linear.weight.bfloat16())
    assert torch.equal(low, product + linear.bias.bfloat16())


def test_linear_leaves_float32_gradients():
    linear = Linear(4, 3)
    linear(torch.randn(2, 4).bfloat16()).float().sum().backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.dtype == torch.float32
    assert linear.bias.grad is not None
    assert linear.bias.grad.dtype == torch.float32
