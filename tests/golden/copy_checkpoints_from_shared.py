"""Copy openpi's own JAX checkpoint folders and its network with LoRA from the golden data of openpi.

Run as `python tests/golden/copy_checkpoints_from_shared.py ../shared`. The folders are copied byte by byte. The inputs
of the LoRA network are those of the plain one, which are here already; of its outputs the ones that are compared.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
STEPS = ("ema/6", "noema/6")
OUTPUTS = ("suffix_out", "v_t", "sq_err", "loss_mean", "sample_actions", "sample_actions_5steps")


def copy(source: Path, target: Path) -> None:
    """Copy the two steps, the LoRA weights and their outputs."""
    for step in STEPS:
        shutil.rmtree(target / "ckpt" / step, ignore_errors=True)
        shutil.copytree(source / "ckpt" / step, target / "ckpt" / step)
    inputs = np.load(source / "tiny_lora" / "inputs.npz")
    plain = np.load(target / "tiny" / "inputs.npz")
    assert all(np.array_equal(inputs[name], plain[name]) for name in plain.files)
    (target / "tiny_lora").mkdir(exist_ok=True)
    np.savez_compressed(target / "tiny_lora" / "params.npz", **np.load(source / "tiny_lora" / "params.npz"))
    outputs = np.load(source / "tiny_lora" / "outputs_f32.npz")
    np.savez_compressed(target / "tiny_lora" / "outputs_f32.npz", **{name: outputs[name] for name in OUTPUTS})


if __name__ == "__main__":
    copy(Path(sys.argv[1]) / "golden" / "openpi", HERE / "openpi")
