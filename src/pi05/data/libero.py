"""What is known of LIBERO's data sets and written nowhere in them: which camera is which, and their true rate.

`HuggingFaceVLA/libero` calls its cameras `observation.images.image` and `image2`, `physical-intelligence/libero`
`image` and `wrist_image`. Both say 10 Hz. The demonstrations were recorded at 20 Hz, as LIBERO runs; openpi's converter
wrote the other number, and the sets made from its output kept it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pi05.data.describe import Describable
from pi05.data.lerobot.format_v3 import REPLAY_FILE
from pi05.types import IMAGE_PREFIX

SCENE, WRIST = f"{IMAGE_PREFIX}image", f"{IMAGE_PREFIX}image2"
SLOTS = {SCENE: "scene", WRIST: "left_wrist"}
"""LeRobot's two names. The second says by itself nothing of a wrist."""
LABELLED_HZ, TRUE_HZ = 10.0, 20.0
_CAMERAS = ({SCENE, WRIST}, {"image", "wrist_image"}, {SCENE, f"{IMAGE_PREFIX}wrist_image"})
_STATE, _ACTION = 8, 7


def camera_slots(cameras: Sequence[str]) -> dict[str, str]:
    """Return camera → slot for a set with exactly LeRobot's two names; nothing for any other."""
    return dict(SLOTS) if set(cameras) == set(SLOTS) else {}


def rate_note(dataset: Describable) -> str | None:
    """Return what a user has to know of the rate of a set with LIBERO's features; None where nothing is wrong.

    What `pi05 collect` made tells its true rate: 10 Hz where actions were held for two control steps.
    """
    cameras, sizes = dataset.camera_keys, (len(dataset.state_names), len(dataset.action_names))
    if (dataset.root / REPLAY_FILE).is_file():
        return None
    if set(cameras) not in _CAMERAS or sizes != (_STATE, _ACTION) or dataset.fps != LABELLED_HZ:
        return None
    return (
        f"the data set says {LABELLED_HZ:g} Hz and has LIBERO's features; LIBERO's demonstrations were recorded at "
        f"{TRUE_HZ:g} Hz, and openpi's converter wrote {LABELLED_HZ:g}. Training does not depend on the label; to "
        "evaluate the policy in LIBERO, add --allow=control-rate"
    )
