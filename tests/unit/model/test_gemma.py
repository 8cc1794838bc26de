from __future__ import annotations

import torch

from pi05.model.gemma import AdaptiveRmsNorm, RmsNorm, normalize_rms, rotate, rotation


def test_rotation_keeps_lengths_and_leaves_position_zero():
    x = torch.randn(1, 4, 2, 8)
    turned = rotate(x, rotation(torch.tensor([[0, 1, 5, 900]]), 8))
    assert torch.equal(turned[:, 0], x[:, 0])
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)


def test_rotation_makes_scores_depend_on_distance_only():
    query, key = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def score(i: int, j: int) -> float:
        at = [rotation(torch.tensor([[position]]), 16) for position in (i, j)]
        return float((rotate(query, at[0]) * rotate(key, at[1])).sum())

    assert abs(score(7, 3) - score(104, 100)) < 1e-4
    assert abs(score(7, 3) - score(3, 7)) > 1e-3


def test_rotation_turns_halves():
    """Dimension j goes with dimension j + H/2, at wavelength 10000^(2j/H)."""
    x = torch.tensor([0.0, 1.0, 0.0, 0.0]).view(1, 1, 1, 4)
    turned = rotate(x, rotation(torch.tensor([[3]]), 4))[0, 0, 0]
    angle = torch.tensor(3 / 10000**0.5)
    assert torch.allclose(turned, torch.stack([torch.tensor(0.0), angle.cos(), torch.tensor(0.0), angle.sin()]))


def test_norm_scale_is_a_difference_from_one():
    x = torch.randn(2, 3, 8) * 5
    norm = RmsNorm(8)
    assert torch.equal(norm(x), normalize_rms(x))
    assert torch.allclose(norm(x).square().mean(dim=-1), torch.ones(2, 3), atol=1e-4)
    torch.nn.init.constant_(norm.scale, 0.5)
    assert torch.allclose(norm(x), 1.5 * normalize_rms(x))


def test_adaptive_norm_reads_scale_shift_gate_in_this_order():
    norm = AdaptiveRmsNorm(4)
    torch.nn.init.zeros_(norm.modulation.weight)
    with torch.no_grad():
        norm.modulation.bias.copy_(torch.tensor([0.5] * 4 + [2.0] * 4 + [-3.0] * 4))
    x, condition = torch.randn(2, 3, 4), torch.randn(2, 4)
    normed, gate = norm(x, condition)
    assert torch.allclose(normed, normalize_rms(x) * 1.5 + 2.0)
    assert gate.shape == (2, 1, 4)
    assert torch.equal(gate, torch.full_like(gate, -3.0))


def test_one_modulation_per_sample():
    norm = AdaptiveRmsNorm(4)
    x, condition = torch.randn(2, 3, 4), torch.randn(2, 4)
    both = norm(x, condition)[0]
    changed = condition.clone()
    changed[1] += 1
    after = norm(x, changed)[0]
    assert torch.equal(after[0], both[0])
    assert not torch.allclose(after[1], both[1])
