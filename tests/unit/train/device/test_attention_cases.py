"""Which attentions a run meets: every tower, padded and not, and the lengths that have failed."""

from __future__ import annotations

from dataclasses import replace

from pi05.model.config import pi05, tiny
from pi05.train.device.attention_cases import StepLengths, cases_of

LIBERO = StepLengths(batch=32, cameras=2, shortest=50, longest=60, bucket=8)


def told(lengths: StepLengths) -> list[str]:
    return [case.told for case in cases_of(replace(pi05(), horizon=50), lengths)]


def test_every_tower_of_a_run_with_prompts_of_different_lengths() -> None:
    assert told(LIBERO) == [
        "vision, 256 keys",
        "language, 576 keys, masked",
        "expert, 626 keys, masked",
    ]
    vision, language, expert = cases_of(replace(pi05(), horizon=50), LIBERO)
    assert (vision.batch, vision.heads, vision.kv_heads, vision.head_dim) == (64, 16, 16, 72)
    assert (language.batch, language.queries, language.heads, language.kv_heads, language.head_dim) == (
        32,
        576,
        8,
        1,
        256,
    )
    assert (language.shortest, expert.queries, expert.shortest) == (562, 50, 612)


def test_prompts_that_fill_their_padding_meet_both() -> None:
    assert told(replace(LIBERO, longest=64)) == [
        "vision, 256 keys",
        "language, 576 keys",
        "expert, 626 keys",
        "language, 576 keys, masked",
        "expert, 626 keys, masked",
    ]


def test_prompts_of_one_length_need_no_mask() -> None:
    assert told(replace(LIBERO, shortest=60, bucket=1)) == [
        "vision, 256 keys",
        "language, 572 keys",
        "expert, 622 keys",
    ]


def test_lengths_that_have_returned_nan_are_looked_at_too() -> None:
    """Keys of 64 modulo 128: 576 of the language model with 64 prompt tokens, where the longest prompt has 90."""
    assert "language, 576 keys, masked" in told(replace(LIBERO, longest=90))
    assert "language, 608 keys, masked" in told(replace(LIBERO, longest=90))


def test_a_cached_prefix_leaves_the_expert_alone_and_flow_samples_multiply_it() -> None:
    cases = cases_of(tiny(), replace(LIBERO, cached_prefix=True, flow_samples=4))
    assert {(case.tower, case.batch) for case in cases} == {("expert", 128)}


def test_the_last_layer_has_no_attention_of_its_own() -> None:
    towers = {case.tower for case in cases_of(replace(tiny(), depth=1), LIBERO)}
    assert towers == {"vision", "expert"}
