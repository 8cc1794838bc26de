"""The attentions of a run's training steps, tower by tower: sizes, lengths, and whether keys are masked. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pi05.model.config import ModelConfig
from pi05.train.device.kernels import OF, WRONG_LENGTH


@dataclass(frozen=True, kw_only=True)
class AttentionCase:
    """One attention as a step calls it."""

    tower: str
    """vision, language or expert."""
    batch: int
    """Samples; of the vision tower images."""
    queries: int
    """Positions that look."""
    keys: int
    """Positions that are looked at."""
    heads: int
    kv_heads: int
    head_dim: int
    shortest: int
    """Keys that count in the sample with the fewest; as many as `keys` where nothing is masked."""

    @property
    def masked(self) -> bool:
        """Whether some keys do not count."""
        return self.shortest < self.keys

    @property
    def told(self) -> str:
        """The case in a few words."""
        return f"{self.tower}, {self.keys} keys{', masked' * self.masked}"


@dataclass(frozen=True, kw_only=True)
class StepLengths:
    """What of a run's batches decides its attention."""

    batch: int
    """Samples per forward pass."""
    cameras: int
    shortest: int
    """Tokens of the shortest prompt."""
    longest: int
    """Tokens of the longest prompt."""
    bucket: int
    """Prompts are padded to multiples of it."""
    flow_samples: int = 1
    cached_prefix: bool = False


def cases_of(sizes: ModelConfig, lengths: StepLengths) -> list[AttentionCase]:
    """Return what a run meets: the longest prompt in every tower, masked and not, and the lengths known to fail.

    The last language layer has no attention, so a network of one layer has none in the language tower.
    """
    found = []
    if not lengths.cached_prefix:
        patches, heads = sizes.patches_per_image, sizes.vision_heads
        found.append(
            AttentionCase(
                tower="vision",
                batch=lengths.batch * lengths.cameras,
                queries=patches,
                keys=patches,
                heads=heads,
                kv_heads=heads,
                head_dim=sizes.vision_width // heads,
                shortest=patches,
            )
        )
    for added, prompt in _prompts(lengths, sizes):
        prefix = lengths.cameras * sizes.patches_per_image + prompt
        least = prefix - added
        language = AttentionCase(
            tower="language",
            batch=lengths.batch,
            queries=prefix,
            keys=prefix,
            heads=sizes.num_heads,
            kv_heads=sizes.num_kv_heads,
            head_dim=sizes.head_dim,
            shortest=least,
        )
        expert = replace(
            language,
            tower="expert",
            batch=lengths.batch * lengths.flow_samples,
            queries=sizes.horizon,
            keys=prefix + sizes.horizon,
            shortest=least + sizes.horizon,
        )
        trained = not lengths.cached_prefix and sizes.depth > 1
        found += [case for case in (language, expert) if case.tower == "expert" or trained]
    return found


def _prompts(lengths: StepLengths, sizes: ModelConfig) -> Iterator[tuple[int, int]]:
    """Yield padding and padded length of prompts: the longest without padding and with it, then others."""
    longest = _padded(lengths.longest, lengths.bucket)
    if longest == lengths.longest:
        yield 0, longest
    if longest > lengths.shortest:
        yield longest - lengths.shortest, longest
    pictures = lengths.cameras * sizes.patches_per_image
    for length in range(_padded(lengths.shortest, lengths.bucket), longest, lengths.bucket):
        if any((pictures + length + more) % OF == WRONG_LENGTH for more in (0, sizes.horizon)):
            yield length - min(lengths.shortest, length - 1), length


def _padded(length: int, bucket: int) -> int:
    return -(-length // bucket) * bucket
