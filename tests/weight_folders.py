"""Folders of weights as the four layouts have them, and what tests of loading compare."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05

LAYOUTS = ["pi05", "openpi PyTorch", "LeRobot", "openpi JAX"]


def same_weights(model: Pi05, weights: dict[str, torch.Tensor]) -> bool:
    parameters = dict(model.named_parameters())
    return parameters.keys() == weights.keys() and all(torch.equal(parameters[name], weights[name]) for name in weights)


def lerobot_folder(folder: Path, tensors: dict[str, torch.Tensor], **settings: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    settings = {"type": "pi05", "chunk_size": 7, "tokenizer_max_length": 33, **settings}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def pi05_folder(folder: Path, config: ModelConfig, weights: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors")
    settings = {"format": "pi05", "format_version": 1, "model": config.to_dict()}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder
