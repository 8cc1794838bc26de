"""What may lie on the table of `tabletop.py`, and what may be asked there: colours, things, words, goals.

Two families of instructions share physics and cameras, but neither colours, nor shapes, nor words for them. `base` is
what `pi05-tiny` was pre-trained on, `demo` is what `pi05 demo` teaches it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pi05.sim.protocol import Goal

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 48, 44),
    "green": (52, 158, 70),
    "blue": (44, 84, 208),
    "yellow": (236, 208, 52),
    "white": (240, 240, 238),
    "pink": (240, 150, 190),
    "orange": (240, 130, 34),
    "purple": (128, 62, 168),
    "cyan": (62, 198, 208),
}
SIDES = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "top": (0.0, 1.0), "bottom": (0.0, -1.0)}


@dataclass(frozen=True)
class Family:
    """What may lie on the table and what may be asked."""

    colours: tuple[str, ...]
    items: tuple[str, ...]
    targets: tuple[str, ...]
    put: tuple[str, ...]
    pick: tuple[str, ...]
    side: tuple[str, ...]
    least: int


FAMILIES: dict[str, Family] = {
    "base": Family(
        colours=("red", "green", "blue", "yellow", "white", "pink"),
        items=("block", "ball"),
        targets=("plate", "tray"),
        put=(
            "put the {item} on the {target}",
            "place the {item} on the {target}",
            "move the {item} onto the {target}",
        ),
        pick=("pick up the {item}", "grasp the {item}"),
        side=("move the {item} to the {side}", "push the {item} to the {side} side"),
        least=1,
    ),
    "demo": Family(
        colours=("orange", "purple", "cyan"),
        items=("star",),
        targets=("bowl",),
        put=("drop the {item} into the {target}",),
        pick=(),
        side=(),
        least=3,
    ),
}


@dataclass(frozen=True)
class TabletopGoal:
    """What an instruction asks for: item index and either a target index, a side, or neither (hold it)."""

    instruction: str
    item: int
    target: int | None = None
    side: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the item shall be held, and no more."""
        return self.target is None and self.side is None

    def implies(self, other: Goal) -> bool:
        """Tell whether `other` is this goal in other words, or to hold what this one says what to do with."""
        if not isinstance(other, TabletopGoal) or other.item != self.item:
            return False
        return other.holds or (other.target, other.side) == (self.target, self.side)
