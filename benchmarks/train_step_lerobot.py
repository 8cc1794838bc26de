"""LeRobot's side of `train_step.py`: its policy at medium size, and one step as its training script takes it.

Runs in LeRobot's own environment. Sizes are set from outside, since LeRobot has those of π₀.₅ built in; nothing else of
it is changed but the two draws (noise and flow time), which are given so that both sides compute the same.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import train_step as shapes
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.pi05 import modeling_pi05
from lerobot.policies.pi05.configuration_pi05 import PI05Config
from safetensors.torch import load_file, save_file

FLAGS = {"full": {}, "frozen-vision": {"freeze_vision_encoder": True}, "expert": {"train_expert_only": True}}


def versions() -> dict[str, str]:
    """Return the versions that were measured."""
    from importlib.metadata import version

    return {name: version(name) for name in ("lerobot", "torch", "transformers")}


def build(case: str, folder: Path) -> Callable[[], float]:
    """Build policy and optimizer, write the weights for the other side, and return the step."""
    torch.manual_seed(0)
    resize_networks()
    image = PolicyFeature(type=FeatureType.VISUAL, shape=(3, shapes.IMAGE_SIZE, shapes.IMAGE_SIZE))
    config = PI05Config(
        device="cpu",
        dtype="float32",
        chunk_size=shapes.HORIZON,
        n_action_steps=shapes.HORIZON,
        tokenizer_max_length=shapes.TOKENS,
        input_features={f"observation.images.camera{i}": image for i in range(shapes.CAMERAS + 1)},
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(shapes.ROBOT_DIMS,))},
        **FLAGS[case],
    )
    policy = modeling_pi05.PI05Policy(config)
    policy.train()
    randomise(policy)
    state = {name: value.clone() for name, value in policy.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    inputs = load_file(folder / "inputs.safetensors")
    policy.model.sample_noise = lambda shape, device: inputs["noise"]
    policy.model.sample_time = lambda count, device: inputs["time"]
    batch: dict[str, Any] = {
        f"observation.images.camera{i}": inputs["images"][:, i].permute(0, 3, 1, 2).float() / 255
        for i in range(shapes.CAMERAS)
    }
    batch["observation.language.tokens"] = inputs["tokens"]
    batch["observation.language.attention_mask"] = inputs["token_mask"]
    batch["action"] = inputs["actions"][..., : shapes.ROBOT_DIMS]
    trainable = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, lr=shapes.LEARNING_RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=shapes.WEIGHT_DECAY
    )

    def step() -> float:
        loss, _ = policy.forward(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, shapes.CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def randomise(policy: torch.nn.Module) -> None:
    """Draw every weight, so that no branch is closed and nothing is zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def resize_networks() -> None:
    """Give LeRobot's constructors the medium sizes."""
    vision, language, expert = (shapes.SHAPES[name] for name in ("vision", "language", "expert"))
    sizes = {
        "gemma_2b": (language["width"], language["depth"], language["mlp"]),
        "gemma_300m": (expert["width"], language["depth"], expert["mlp"]),
    }
    heads = (language["heads"], language["kv_heads"], language["head_dim"])
    modeling_pi05.get_gemma_config = lambda variant: modeling_pi05.GemmaConfig(*sizes[variant], *heads)
    make_paligemma = modeling_pi05.PaliGemmaForConditionalGenerationWithPiGemma
    make_expert = modeling_pi05.PiGemmaForCausalLM

    def paligemma(config: Any) -> torch.nn.Module:
        config.text_config.vocab_size = config._vocab_size = shapes.VOCABULARY
        config.image_token_index = shapes.VOCABULARY - 1
        config.vision_config.hidden_size = vision["width"]
        config.vision_config.intermediate_size = vision["mlp"]
        config.vision_config.num_hidden_layers = vision["depth"]
        config.vision_config.num_attention_heads = vision["heads"]
        config.vision_config.projection_dim = language["width"]
        return make_paligemma(config=config)

    def gemma(config: Any) -> torch.nn.Module:
        config.vocab_size = shapes.VOCABULARY
        return make_expert(config=config)

    modeling_pi05.PaliGemmaForConditionalGenerationWithPiGemma = paligemma
    modeling_pi05.PiGemmaForCausalLM = gemma
