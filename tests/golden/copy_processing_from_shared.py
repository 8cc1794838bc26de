"""Copy what the parity tests of the transforms and of the augmentation compare, from the golden data of openpi.

Run as `python tests/golden/copy_processing_from_shared.py ../shared`. Tests need only the result, which is committed.
Left out: most of the resized pictures, and all but every sixth row and column of the augmented ones (the pictures that
went in are in `openpi/tiny/inputs.npz`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

TARGET = Path(__file__).resolve().parent / "processing"
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
FIRST_SEED, RECORDED = 100, 2
EVERY = 6
RESIZED = ("100x224", "333x217")
NORMALIZED = ("x", "mean", "std", "q01", "q99", "quantile", "zscore", "x32", "unquantile32", "unz32")


def copy_augmentation(source: Path) -> None:
    """Copy draws and augmented pictures of the seeds that were recorded."""
    extras = json.loads((source / "extras.json").read_text())
    draws = [draw for draw in extras["augment_params"] if draw["seed"] < FIRST_SEED + RECORDED]
    golden = np.load(source / "augment.npz")
    kept = {}
    for number in range(RECORDED):
        for camera in CAMERAS:
            kept[f"{FIRST_SEED + number}/{camera}"] = golden[f"aug{number}/{camera}"][:, ::EVERY, ::EVERY]
    np.savez_compressed(TARGET / "augment.npz", **kept)
    (TARGET / "augment_draws.json").write_text(json.dumps(draws, indent=1) + "\n")


def copy_transforms(source: Path) -> None:
    """Copy prompts, state bins, normalised values and two resized pictures."""
    extras = json.loads((source / "extras.json").read_text())
    kept = {name: extras[name] for name in ("prompts", "state_bins_f64", "state_bins_f32")}
    (TARGET / "prompts.json").write_text(json.dumps(kept, indent=1) + "\n")
    normalized = np.load(source / "normalize.npz")
    np.savez_compressed(TARGET / "normalize.npz", **{name: normalized[name] for name in NORMALIZED})
    resized = np.load(source / "resize.npz")
    names = [f"{kind}_{size}" for size in RESIZED for kind in ("in", "pil")]
    np.savez_compressed(TARGET / "resize.npz", **{name: resized[name] for name in names})


def copy_serving(source: Path) -> None:
    """Copy openpi's answers for LIBERO and DROID; the black right wrist picture is left out."""
    golden = np.load(source / "policy_infer.npz")
    chosen = [name for name in golden if name.startswith(("libero/", "droid/")) and "right_wrist" not in name]
    target = TARGET.parent / "openpi" / "policy_infer.npz"
    np.savez_compressed(target, noise=golden["noise"], **{name: golden[name] for name in chosen})


if __name__ == "__main__":
    extras_folder = Path(sys.argv[1]) / "golden" / "openpi" / "extras"
    TARGET.mkdir(exist_ok=True)
    copy_augmentation(extras_folder)
    copy_transforms(extras_folder)
    copy_serving(extras_folder)
