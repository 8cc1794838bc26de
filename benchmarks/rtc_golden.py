"""Record what LeRobot's real-time chunking computes: `tests/golden/lerobot_rtc/cases.npz`.

Runs in LeRobot's own environment (`benchmarks/open_with_lerobot.py` tells how one is made, with `lerobot[pi]==0.6.1`)
and never imports pi05:

    /path/to/lerobot-env/bin/python benchmarks/rtc_golden.py

Two kinds of record, both by LeRobot's unmodified code: single steps of `RTCProcessor.denoise_step` around a small
formula in the place of a network, over schedules, delays, horizons and times; and whole samples of its π₀.₅ with the
weights and inputs of `tests/golden/lerobot`.
"""

from __future__ import annotations

import itertools
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import train_step as shapes
from lerobot.configs import RTCAttentionSchedule
from lerobot.policies.pi05 import modeling_pi05
from lerobot.policies.pi05.configuration_pi05 import PI05Config
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from lerobot.policies.rtc.modeling_rtc import RTCProcessor
from safetensors.torch import load_file
from train_step_lerobot import resize_networks

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
SCHEDULES = ("LINEAR", "EXP", "ONES", "ZEROS")
STEPS = tuple(itertools.product(SCHEDULES, (0, 3), (4, 10), (1.0, 0.5, 0.1)))
"""Schedule, delay, execution horizon, flow time."""
SAMPLES = (("LINEAR", 2, 6, 10.0), ("EXP", 3, 10, 5.0))
"""Schedule, delay, execution horizon, most guidance."""
SIZES = {
    "vision": {"width": 48, "depth": 2, "mlp": 96, "heads": 4},
    "language": {"width": 64, "depth": 3, "mlp": 128, "heads": 8, "head_dim": 16, "kv_heads": 1},
    "expert": {"width": 32, "mlp": 64},
}
"""The golden network's."""
LEFT = 7
"""Actions that are left of the previous chunk of 10."""


def main() -> None:
    """Write the records."""
    records: dict[str, np.ndarray] = {**single_steps(), **whole_samples()}
    facts = {
        "versions": {name: version(name) for name in ("lerobot", "torch", "transformers")},
        "steps": STEPS,
        "samples": SAMPLES,
        "left": LEFT,
    }
    folder = GOLDEN / "lerobot_rtc"
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / "cases.npz", **records)  # type: ignore[arg-type]
    (folder / "cases.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"written to {folder}")


def processor_of(schedule: str, most: float) -> RTCProcessor:
    """Return LeRobot's processor."""
    config = RTCConfig(prefix_attention_schedule=RTCAttentionSchedule(schedule), max_guidance_weight=most)
    return RTCProcessor(config)


def single_steps() -> dict[str, np.ndarray]:
    """Return inputs and results of single denoising steps; the velocity is tanh(x M) / 2."""
    generator = torch.Generator().manual_seed(0)
    x_t, previous = torch.randn(2, 2, 10, 5, generator=generator)
    mixing = torch.randn(5, 5, generator=generator)
    found = []
    for schedule, delay, horizon, time in STEPS:
        step = processor_of(schedule, 10.0).denoise_step
        found.append(
            step(x_t, previous[:, :LEFT], delay, time, lambda x: torch.tanh(x @ mixing) / 2, execution_horizon=horizon)
        )
    steps = torch.stack(found)
    arrays = {"x_t": x_t, "previous": previous[:, :LEFT], "mixing": mixing, "steps": steps.detach()}
    return {name: value.numpy() for name, value in arrays.items()}


def whole_samples() -> dict[str, np.ndarray]:
    """Return what LeRobot's π₀.₅ samples while it is steered towards a previous chunk."""
    shapes.SHAPES, shapes.VOCABULARY = SIZES, 1024
    resize_networks()
    config = PI05Config(device="cpu", chunk_size=10, n_action_steps=10, tokenizer_max_length=48)
    weights = load_file(GOLDEN / "lerobot" / "weights.safetensors")
    given = np.load(GOLDEN / "lerobot" / "golden.npz")
    generator = torch.Generator().manual_seed(1)
    previous = torch.randn(len(given["tokens"]), LEFT, 7, generator=generator)
    found: dict[str, np.ndarray] = {"sample_previous": previous.numpy()}
    for index, (schedule, delay, horizon, most) in enumerate(SAMPLES):
        config.rtc_config = RTCConfig(
            prefix_attention_schedule=RTCAttentionSchedule(schedule), max_guidance_weight=most
        )
        network = modeling_pi05.PI05Pytorch(config, rtc_processor=processor_of(schedule, most))
        missing = network.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
        assert not missing.missing_keys
        chunk = network.eval().sample_actions(
            *inputs(given),
            noise=torch.from_numpy(given["noise"]),
            inference_delay=delay,
            prev_chunk_left_over=previous,
            execution_horizon=horizon,
        )
        found[f"sample_{index}"] = chunk.detach().numpy()
    return found


def inputs(given: Any) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Return the golden pictures (a third camera is missing), masks and prompts as LeRobot's network takes them."""
    fixed = [given[f"image_{i}_high"] * 65536.0 + given[f"image_{i}_low"] for i in (0, 1)]
    images = [torch.from_numpy(image / (2**24 - 1) * 2 - 1).float().permute(0, 3, 1, 2) for image in fixed]
    images.append(torch.full_like(images[0], -1.0))
    count = len(images[0])
    masks = [torch.full((count,), seen) for seen in (True, True, False)]
    return images, masks, torch.from_numpy(given["tokens"]), torch.from_numpy(given["token_mask"])


if __name__ == "__main__":
    main()
