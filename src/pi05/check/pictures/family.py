"""What is wrong with the pictures: nothing in them, the same all the time, twice the same, unlike the other episodes.

A camera that is broken in every episode is an error, in some of them a warning. Whether red and blue are exchanged, or
pictures upside down, in all episodes alike cannot be told by the data alone: a base that knows the camera tells it
(`beside_base.py`), and the page of `pi05 check` shows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from pi05.check.pictures.beside_base import compare_with_base
from pi05.check.pictures.looks import FLAT, Look, Looks, Progress, listed, take_looks
from pi05.check.pictures.places import check_places
from pi05.check.pictures.timing import check_timing
from pi05.check.subject import Subject
from pi05.data.lerobot.files import dropping, excluding
from pi05.data.robot.camera_view import UNDONE_BY
from pi05.finding import Finding, error, note, ok, warning

FROZEN = 0.5
"""Greatest mean difference of two of the moments, in grey values: sound sets have 1.8 and more; a frozen camera 0, or
0.4 behind a coarse encoder. (From one frame to the next sound sets have 0.15 and more: less room for an encoder.)"""
SAME = 1.0
"""Mean difference of two cameras: 28.8 in a sound set, 0 for copies, less than 1 for copies encoded twice."""
LEAST_EPISODES = 5
"""Episodes from which on one of them can be an outlier."""
DARKER, TINTED = 40.0, 0.2
"""Grey values, and shares of the brightness for each channel, by which an episode differs from the others at least."""
OUTLYING = 6.0
"""Median deviations by which it differs at the least."""
UPRIGHT, TURNED = 0.4, 0.7
"""Correlation with the other episodes as it is, and when it is flipped, of an episode that is flipped."""
WRIST_MOVES = 0.25
"""Share of pixels that change between two moments: 0.3 to 0.7 on wrists, 0.04 to 0.35 for cameras that stand still."""
DARK = 16
"""Grey value up to which a picture of one colour is called black."""


def check_pictures(subject: Subject, progress: Progress) -> Iterator[Finding]:
    """Yield what is wrong with the cameras in use."""
    cameras = subject.dataset.camera_keys if subject.recipe is None else subject.recipe.slots.keys
    if not cameras or not len(subject.episodes):
        return
    looks = take_looks(subject.dataset, subject.episodes, cameras, progress)
    found = list(
        chain(
            _unreadable(looks),
            *(_camera(looks.of(camera), camera) for camera in cameras),
            _twins(subject, looks),
            check_places(looks, cameras),
            _by_motion(subject, looks),
            compare_with_base(subject, looks),
            check_timing(subject, _seeing(looks, cameras), progress),
        )
    )
    yield from found
    if not any(finding.to_mend for finding in found):
        yield ok("pictures.sound", f"{len(looks.looks)} videos of {len(cameras)} cameras were looked at")


def _seeing(looks: Looks, cameras: Sequence[str]) -> list[str]:
    """Return the cameras whose pictures show something and change."""
    seeing = {look.camera for look in looks.looks if look.contrast >= FLAT and look.change >= FROZEN}
    return [camera for camera in cameras if camera in seeing]


def _unreadable(looks: Looks) -> Iterator[Finding]:
    """One finding for each camera, with the reader's own words on the first."""
    for camera in dict.fromkeys(camera for camera, _, _ in looks.unreadable):
        faults = [(episode, fault) for name, episode, fault in looks.unreadable if name == camera]
        episodes = [episode for episode, _ in faults]
        first = faults[0][1]
        yield error(
            "pictures.unreadable",
            f"{camera} cannot be decoded in episodes {listed(episodes)}: {first.problem}; wanted {first.wanted}, "
            f"found {first.found}",
            "stops there",
            first.remedy if len(episodes) == 1 else f"{excluding(*episodes)}, or {dropping(camera)}",
            {"camera": camera, "episodes": episodes},
        )


def _camera(looks: Sequence[Look], camera: str) -> Iterator[Finding]:
    """Judge one camera over its episodes."""
    if not looks:
        return
    empty = [look for look in looks if look.contrast < FLAT]
    if empty:
        light = [look.brightness for look in empty]
        what = "black" if max(light) < DARK else "white" if min(light) > 255 - DARK else "one colour"
        yield _broken("pictures.empty", camera, looks, empty, f"is {what}", "sees nothing there")
    seeing = [look for look in looks if look.contrast >= FLAT]
    yield from _gaps(camera, seeing)
    frozen = [look for look in seeing if look.change < FROZEN]
    if frozen:
        yield _broken(
            "pictures.frozen", camera, looks, frozen, "shows the same picture all the time", "learns to ignore it"
        )
    if len(seeing) >= LEAST_EPISODES:
        yield from chain(_brightness(camera, seeing), _colour(camera, seeing), _orientation(camera, seeing))


def _broken(name: str, camera: str, looks: Sequence[Look], broken: Sequence[Look], what: str, effect: str) -> Finding:
    """Return an error where a camera is broken in all episodes, else a warning that names them."""
    episodes = [look.episode for look in broken]
    numbers = {"camera": camera, "episodes": episodes}
    if len(broken) == len(looks):
        return error(
            name,
            f"{camera} {what} in every episode",
            f"{effect}: the slot is filled and tells nothing",
            f"repair the recording, or leave the camera out: {dropping(camera)}",
            numbers,
        )
    return warning(
        name, f"{camera} {what} in episodes {listed(episodes)} of {len(looks)}", effect, excluding(*episodes), numbers
    )


def _gaps(camera: str, looks: Sequence[Look]) -> Iterator[Finding]:
    gaps = [look for look in looks if look.flat]
    if gaps:
        episodes = [look.episode for look in gaps]
        yield warning(
            "pictures.gaps",
            f"{camera} shows nothing at some moments of episodes {listed(episodes)}: pictures were lost",
            "sees nothing at these moments, and learns that the camera may be ignored",
            excluding(*episodes),
            {"camera": camera, "episodes": episodes},
        )


def _brightness(camera: str, looks: Sequence[Look]) -> Iterator[Finding]:
    values = np.array([look.brightness for look in looks])
    far = _outliers(values[:, None], DARKER)
    if len(far):
        numbers = {looks[i].episode: round(float(values[i]), 1) for i in far}
        yield warning(
            "pictures.brightness",
            f"{camera} is darker or brighter in episodes {listed(list(numbers))} (mean {listed(numbers.values())}) "
            f"than in the others (median {np.median(values):.0f} of 255)",
            "learns from few pictures of that light, if they were meant",
            f"look at them (the page shows them); were they a mistake: {excluding(*numbers)}",
            {"camera": camera, "episodes": list(numbers), "brightness": numbers},
        )


def _colour(camera: str, looks: Sequence[Look]) -> Iterator[Finding]:
    """Name episodes of another tint; where red and blue exchanged would make it that of the others, say so."""
    colours = np.array([look.colour / max(float(look.colour.mean()), 1.0) for look in looks])
    far = _outliers(colours, TINTED)
    if not len(far):
        return
    middle = np.median(colours, axis=0)
    swapped = [i for i in far if np.abs(colours[i][::-1] - middle).max() < 0.5 * np.abs(colours[i] - middle).max()]
    episodes = [looks[i].episode for i in far]
    how = "as if red and blue were exchanged" if len(swapped) == len(far) else "another light or white balance"
    yield warning(
        "pictures.colour",
        f"{camera} has other colours in episodes {listed(episodes)} than in the others: {how}",
        "learns that colours do not matter, and colours may be what tells objects apart",
        f"look at them (the page shows them), and write these episodes anew or leave them out: {excluding(*episodes)}",
        {"camera": camera, "episodes": episodes, "exchanged": [looks[i].episode for i in swapped]},
    )


def _orientation(camera: str, looks: Sequence[Look]) -> Iterator[Finding]:
    """Name episodes that look like the others only when they are turned or mirrored."""
    middle = np.median([look.tiny for look in looks], axis=0)
    turned: dict[int, str] = {}
    for look in looks:
        fits = {how: _likeness(undo(look.tiny), middle) for how, undo in UNDONE_BY.items()}
        best = max(fits, key=lambda how: fits[how])
        if _likeness(look.tiny, middle) < UPRIGHT and fits[best] > TURNED:
            turned[look.episode] = best
    if turned and len(turned) < len(looks) / 2:
        yield warning(
            "pictures.orientation",
            f"{camera} is {', '.join(dict.fromkeys(turned.values()))} in episodes {listed(list(turned))}, and not in "
            "the others",
            "learns two worlds, and the robot will show it one",
            f"write these episodes anew the other way round, or leave them out: {excluding(*turned)}",
            {"camera": camera, "episodes": list(turned), "how": turned},
        )


def _twins(subject: Subject, looks: Looks) -> Iterator[Finding]:
    seeing = {(look.camera, look.episode) for look in looks.looks if look.contrast >= FLAT}
    for pair in dict.fromkeys(twins.cameras for twins in looks.twins):
        both = [t for t in looks.twins if t.cameras == pair and all((c, t.episode) in seeing for c in pair)]
        same = [twins.episode for twins in both if twins.difference < SAME]
        numbers = {"cameras": list(pair), "episodes": same}
        if same and len(same) == len(both):
            yield error(
                "pictures.same_camera",
                f"{pair[0]} and {pair[1]} show the same pictures in every episode",
                "gets one view twice, and at the robot two that differ",
                f"record the missing camera, or leave one out: {dropping(pair[1])}",
                numbers,
            )
        elif same:
            yield warning(
                "pictures.same_camera",
                f"{pair[0]} and {pair[1]} show the same pictures in episodes {listed(same)}",
                "gets one view twice there",
                excluding(*same),
                numbers,
            )


def _by_motion(subject: Subject, looks: Looks) -> Iterator[Finding]:
    """Compare how much of each picture moves with the slot it goes to: on a wrist nearly everything does."""
    if subject.recipe is None:
        return
    slots = subject.recipe.slots.by_slot
    moved = {
        slot: float(np.median([look.moved for look in looks.of(camera) if look.moved == look.moved] or [0.0]))
        for slot, camera in slots.items()
        if camera is not None and looks.of(camera)
    }
    told = ", ".join(f"{slots[slot]} ({slot}) {share:.0%}" for slot, share in moved.items())
    wrists = {slot: share for slot, share in moved.items() if slot != "scene"}
    calm = [slot for slot, share in wrists.items() if moved.get("scene", 0.0) > max(WRIST_MOVES, 2 * share)]
    if calm:
        camera, wrist = slots["scene"], slots[calm[0]]
        yield warning(
            "pictures.slots",
            f"the camera of the scene moves like one on a wrist, and that of the wrist stands still: share of the "
            f"picture that changes between two moments: {told}",
            "shows the network the hand where it expects the scene",
            f'if they are exchanged: --rename_map=\'{{"{camera}": "{calm[0]}", "{wrist}": "scene"}}\'',
            {"moved": moved},
        )
    elif moved:
        yield note("pictures.motion", f"share of each picture that changes between two moments: {told}", numbers=moved)


def _outliers(values: np.ndarray, least: float) -> np.ndarray:
    """Return which rows are far from the middle one, by the least and by six median deviations."""
    distance = np.abs(values - np.median(values, axis=0))
    spread = 1.4826 * np.median(distance, axis=0)
    outside: np.ndarray = np.flatnonzero((distance > np.maximum(least, OUTLYING * spread)).any(axis=1))
    return outside


def _likeness(first: np.ndarray, second: np.ndarray) -> float:
    if first.std() < 1 or second.std() < 1:
        return 0.0
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])
