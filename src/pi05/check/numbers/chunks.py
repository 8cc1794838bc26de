"""How much of the action chunks lies past the end of their episode."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pi05.check.subject import Subject
from pi05.finding import Finding, warning

PADDED = 0.5
"""Share of padded targets: 0.01 to 0.28 in sound sets."""


def padded_share(lengths: np.ndarray, horizon: int) -> float:
    """Return the share of all targets of all chunks that lie past their episode's end."""
    inside = np.minimum(lengths, horizon)
    # frame by frame from the end: horizon - 1, horizon - 2, … padded targets
    padded = horizon * inside - inside * (inside + 1) / 2
    return float(padded.sum() / (lengths.sum() * horizon))


def judge_padding(subject: Subject) -> Iterator[Finding]:
    """Yield a set whose episodes are short against the chunks that are trained on."""
    if subject.recipe is None:
        return
    horizon = subject.recipe.processor.horizon
    lengths = np.array([subject.dataset.episodes[number].length for number in subject.episodes], np.float64)
    share = padded_share(lengths, horizon)
    if share > PADDED:
        seconds = horizon / subject.dataset.fps
        yield warning(
            "numbers.padding",
            f"{share:.0%} of all action targets lie past the end of their episode: chunks have {horizon} steps "
            f"({seconds:.2g} s), episodes {np.median(lengths):.0f} frames",
            "learns from few real targets; those past the end do not count (--loss=masked)",
            f"shorter chunks: --policy.chunk_size={max(1, int(np.median(lengths) // 4))}, or longer recordings",
            {"share": share, "horizon": horizon, "median_length": float(np.median(lengths))},
        )
