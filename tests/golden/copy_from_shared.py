"""Copy what the parity tests of the network compare from the golden data of openpi and LeRobot, and nothing else.

Run as `python tests/golden/copy_from_shared.py ../shared`. Tests need only the result, which is committed. Left out:
positions that no one may attend to (masked cameras, padding), whose values mean nothing; and what several files repeat.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

HERE = Path(__file__).resolve().parent
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
OUTPUTS = ("adarms_cond", "suffix_tokens", "suffix_out", "v_t", "sq_err", "loss_mean", "grad_norm", "sample_actions")
EXACT_OUTPUTS = ("time_emb", "sample_actions_5steps", "traj_x", "traj_t", "traj_v")
IMAGE_STEPS = 2**24 - 1


def copy_openpi(source: Path, target: Path) -> None:
    """Copy the outputs of openpi's JAX model and fingerprints of its PyTorch weights."""
    inputs = np.load(source / "inputs.npz")
    image_mask = np.stack([inputs[f"image_mask/{camera}"] for camera in CAMERAS], axis=1)
    for precision, names in (("f32", OUTPUTS + EXACT_OUTPUTS), ("bf16", OUTPUTS)):
        golden = np.load(source / f"outputs_{precision}.npz")
        valid = golden["prefix_mask"]
        images = np.stack([golden[f"image_tokens/{camera}"] for camera in CAMERAS], axis=1)
        image_count = images.shape[1] * images.shape[2]
        kept = {name: golden[name] for name in names}
        kept["image_tokens"] = images[image_mask]
        kept["prompt_tokens"] = golden["prefix_tokens"][:, image_count:][valid[:, image_count:]]
        assert np.array_equal(golden["prefix_tokens"][:, :image_count][valid[:, :image_count]],
                              kept["image_tokens"].reshape(-1, images.shape[-1]))  # fmt: skip
        for name in ("kv_k", "kv_v"):
            kept[name] = golden[name][:, :, : valid.shape[1], 0][:, valid]
        np.savez_compressed(target / f"outputs_{precision}.npz", **kept)
    np.savez_compressed(target / "grads_f32.npz", **np.load(source / "grads_f32.npz"))
    with safe_open(source / "torch_model_openpi_names.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    prints = {name: {"shape": list(tensor.shape), "sha256": fingerprint(tensor)} for name, tensor in tensors.items()}
    (target / "torch_fingerprints.json").write_text(json.dumps(prints, indent=1) + "\n")


def copy_lerobot(source: Path, target: Path) -> None:
    """Copy LeRobot's weights, inputs after its own preprocessing, outputs and gradients."""
    outputs, inputs = load_file(source / "outputs.safetensors"), load_file(source / "inputs.safetensors")
    (target / "weights.safetensors").write_bytes((source / "weights.safetensors").read_bytes())
    np.savez_compressed(target / "grads.npz", **load_file(source / "grads.safetensors"))
    kept = {name: inputs[name] for name in ("actions", "actions_padded", "noise", "time", "token_mask", "tokens")}
    for camera in (0, 1):
        pixels = outputs[f"preproc.image_{camera}"].astype(np.float64).transpose(0, 2, 3, 1)
        fixed_point = np.rint((pixels + 1) / 2 * IMAGE_STEPS).astype(np.uint32)
        kept[f"image_{camera}_high"] = (fixed_point >> 16).astype(np.uint8)
        kept[f"image_{camera}_low"] = fixed_point.astype(np.uint16)
        kept[f"image_tokens_{camera}"] = outputs[f"prefix.image_emb_{camera}"]
    image_count = 3 * kept["image_tokens_0"].shape[1]
    kept["prompt_tokens"] = outputs["prefix.embs"][:, image_count:][inputs["token_mask"]]
    names = ("suffix.x_t", "suffix.embs", "suffix.adarms_cond", "train.loss_per_element", "train.loss_per_sample")
    kept.update({name: outputs[name] for name in names})
    kept.update({name: value for name, value in outputs.items() if name.startswith("infer.")})
    np.savez_compressed(target / "golden.npz", **kept)
    raw = inputs["raw.observation.images.base_0_rgb"]
    np.savez_compressed(target / "raw_channel.npz", sample_0_red=raw[0, 0])
    (target / "golden.json").write_bytes((source / "golden.json").read_bytes())


def fingerprint(tensor: torch.Tensor) -> str:
    """Return the SHA-256 of a tensor's values in C order."""
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def copy_keys(source: Path, target: Path) -> None:
    """Copy the name lists; of the JAX file the part without adapters."""
    for name in ("openpi_torch.txt", "lerobot_torch.txt"):
        (target / name).write_bytes((source / name).read_bytes())
    plain, _, _ = (source / "openpi_jax.txt").read_text().partition("\n\n")
    (target / "openpi_jax.txt").write_text(plain + "\n")


if __name__ == "__main__":
    shared = Path(sys.argv[1])
    copy_openpi(shared / "golden" / "openpi" / "tiny", HERE / "openpi" / "tiny")
    copy_lerobot(shared / "golden" / "lerobot", HERE / "lerobot")
    copy_keys(shared / "spec" / "keys", HERE / "keys")
