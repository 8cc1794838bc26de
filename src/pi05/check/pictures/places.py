"""Have two cameras changed places in some episodes? As after a computer's start that numbered them anew.

Each episode is judged by what the two cameras show in the others, by the rule that a policy judges its robot by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from pi05.check.pictures.looks import FLAT, Look, Looks, listed
from pi05.data.lerobot.files import excluding
from pi05.data.robot.camera_view import averaged
from pi05.data.robot.camera_views import EPISODES, have_changed, spread
from pi05.finding import Finding, warning

LEAST_EPISODES = 5
"""Episodes from which on one of them can be unlike the others."""
MOST_ROUNDS = 4
"""Each finds what was hidden by those that the round before has found."""


def check_places(looks: Looks, cameras: Sequence[str]) -> Iterator[Finding]:
    """Yield a warning for each two cameras whose pictures are exchanged in less than half of the episodes."""
    for one, other in combinations(cameras, 2):
        first, second = (
            {look.episode: look for look in looks.of(name) if look.contrast >= FLAT} for name in (one, other)
        )
        pairs = [(first[episode], second[episode]) for episode in first if episode in second]
        changed = [pairs[number][0].episode for number in _changed(pairs)]
        if changed and 2 * len(changed) < len(pairs) >= LEAST_EPISODES:
            yield warning(
                "pictures.exchanged",
                f"{one} and {other} have changed places in episodes {listed(changed)}: each shows there what the other "
                f"one shows in the other episodes of {len(pairs)}",
                "sees the hand where it saw the scene, and learns that neither place means anything",
                f"exchange the two columns in these episodes, or leave them out: {excluding(*changed)}",
                {"cameras": [one, other], "episodes": changed},
            )


def _changed(pairs: Sequence[tuple[Look, Look]]) -> list[int]:
    """Return which of these are exchanged, judged by the rest; those that were found do not count for the others."""
    found: list[int] = []
    for _ in range(MOST_ROUNDS):
        sound = [number for number in range(len(pairs)) if number not in found]
        before, found = found, [number for number in range(len(pairs)) if _is_changed(pairs, number, sound)]
        if found == before:
            break
    return found


def _is_changed(pairs: Sequence[tuple[Look, Look]], number: int, sound: Sequence[int]) -> bool:
    """Tell whether an episode's pictures fit those of sound ones clearly better when they are exchanged."""
    others = [pairs[each] for each in sound if each != number]
    if not others:
        return False
    chosen = [others[i] for i in spread(len(others), EPISODES)]
    views = (averaged([pair[0].squares for pair in chosen]), averaged([pair[1].squares for pair in chosen]))
    one, other = pairs[number]
    return have_changed(views, list(zip(one.squares, other.squares, strict=False)))
