"""A camera that the base knows, and whose pictures stand otherwise here: turned, mirrored, red for blue.

A run of pi05 keeps what its cameras showed (`data/robot/camera_view.py`). Where this data set has a camera of the same
name in the same slot, its pictures are compared with that. All episodes may be turned alike: it is the base that tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from pi05.check.pictures.looks import Looks
from pi05.check.subject import Subject
from pi05.data.robot.camera_view import CameraView
from pi05.finding import Finding, warning

MOST = 0.5
"""Share of the pictures that stand otherwise in the same way, above which the camera does."""


def compare_with_base(subject: Subject, looks: Looks) -> Iterator[Finding]:
    """Yield the cameras whose pictures the base knows otherwise; nothing where it does not tell."""
    if subject.base is None or subject.recipe is None:
        return
    views, slots = (subject.base.settings.get(name) for name in ("camera_views", "slots"))
    if not isinstance(views, Mapping) or not isinstance(slots, Mapping):
        return
    for slot, camera in subject.recipe.slots.by_slot.items():
        if camera is None or slots.get(slot) != camera or slot not in views:
            continue
        view = CameraView.from_dict(views[slot])
        told = [view.differences(picture) for look in looks.of(camera) for picture in look.squares]
        if not told:
            continue
        how, count = Counter(told).most_common(1)[0]
        if how and count > MOST * len(told):
            yield warning(
                "pictures.unlike_base",
                f"{camera} comes {' and '.join(how)}, compared with what the base was trained on from that camera, in "
                f"{count} of {len(told)} pictures",
                "has to learn anew what the base has seen, and its robot may show it yet otherwise",
                "compare with the base's step0/ pictures; turn the pictures, or exchange the channels, in the "
                "recording; or give the camera another name if it is another camera",
                {"camera": camera, "how": list(how), "share": count / len(told)},
            )
