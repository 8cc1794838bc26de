"""openpi's PyTorch folder, written: the weight file that its strict loader accepts, `config.json`, statistics, a note.

openpi ties the language head to the token embedding and its files hold the head alone, the tie in the metadata; a file
with both is refused there. The expert's dead head must be there; we do not keep it, so it is zero. Horizon, prompt,
cameras and relative actions are no part of openpi's folders but of its Python configuration: OPENPI.md holds the lines.
Facts: openpi `scripts/train_pytorch.py`, `examples/convert_jax_model_to_pytorch.py`, `shared/normalize.py`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch

from pi05.checkpoint.file_names import CONFIG
from pi05.checkpoint.foreign_statistics import openpi_statistics
from pi05.checkpoint.openpi.aloha import looks_like_aloha
from pi05.checkpoint.openpi.names import EMBEDDING, EXPERT_HEAD, LANGUAGE_HEAD, openpi_layout
from pi05.checkpoint.safetensors_writer import LazyTensor
from pi05.data.cameras import OPENPI_SLOTS
from pi05.data.processor import Processor
from pi05.errors import CheckpointError, ConfigError
from pi05.files import write_atomic, write_json
from pi05.model.config import ModelConfig, pi05
from pi05.model.pi05 import Pi05

METADATA = {EMBEDDING: LANGUAGE_HEAD}
NOTE = "OPENPI.md"
REVISION = "15a9616a"
"""Commit of openpi that an export is made for."""
_FULL = re.compile(
    r"patch_embedding|position_embedding|input_layernorm|post_attention_layernorm|model\.norm\.|^action_|^time_mlp"
)
"""What openpi keeps in float32 when a model is bfloat16 (`to_bfloat16_for_selected_params`)."""


def require_expressible(processor: Processor) -> None:
    """Raise CheckpointError for a policy that openpi cannot be."""
    if processor.prompt_format == "state32":
        raise CheckpointError(
            "openpi cannot run this policy: it writes the state into the prompt without padding",
            wanted="prompt format state or none",
            found="state32 (LeRobot up to 0.4.4)",
            remedy="export --to pi05, or train with --prompt_format state",
        )


def require_asset_id(asset_id: str) -> None:
    """Raise ConfigError for an asset id that is no relative path downwards."""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", asset_id) or ".." in asset_id.split("/"):
        raise ConfigError(
            "the asset id cannot be a folder's name",
            wanted="words of letters, digits, _, . and -, joined by /",
            found=f"--asset_id={asset_id}",
            remedy="for example --asset_id=my_robot",
        )


def differences(processor: Processor, sizes: ModelConfig) -> list[str]:
    """Return what openpi will do otherwise than the policy was trained for, as sentences; but for its resize."""
    notes = ["openpi's server computes in bfloat16, whatever the file holds"]
    free = {name: getattr(sizes, name) for name in ("horizon", "max_prompt_tokens", "action_dim")}
    if replace(pi05(), **free) != sizes:
        notes.append("openpi builds gemma_2b with gemma_300m and SigLIP So400m; this network has other sizes")
    if processor.image_size != pi05().image_size:
        notes.append(f"openpi's pictures have 224 × 224 pixels; this network's {processor.image_size}")
    return notes


def openpi_tensors(model: Pi05, dtype: torch.dtype) -> dict[str, LazyTensor]:
    """Return the weight file's content; write it with `METADATA`."""
    config = model.config
    parameters = dict(model.named_parameters())
    tensors = {}
    for name, (target,) in openpi_layout(config.depth, config.vision_depth).targets.items():
        stored = LANGUAGE_HEAD if name == EMBEDDING else name
        value = parameters[target.name].detach()
        tensors[stored] = LazyTensor.changed(value, target.to_foreign, openpi_dtype(stored, dtype))
    head = (config.vocab_size, config.expert_width)
    tensors[EXPERT_HEAD] = LazyTensor(head, openpi_dtype(EXPERT_HEAD, dtype), lambda: torch.zeros(head))
    return tensors


def openpi_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """Return the precision in which openpi stores a tensor of a model of this `dtype`."""
    return torch.float32 if _FULL.search(name) else dtype


def write_openpi_files(folder: Path, processor: Processor, *, asset_id: str, dtype: torch.dtype) -> None:
    """Write everything but the weights: config.json, assets/ASSET_ID/norm_stats.json, OPENPI.md."""
    require_asset_id(asset_id)
    precision = str(dtype).removeprefix("torch.")
    write_json(
        folder / CONFIG,
        {
            "action_dim": processor.action_dim,
            "action_horizon": processor.horizon,
            "paligemma_variant": "gemma_2b",
            "action_expert_variant": "gemma_300m",
            "precision": precision,
        },
    )
    stats = {}
    for key, kind, values in (
        ("state", "STATE", processor.state_stats),
        ("actions", "ACTION", processor.action_stats),
    ):
        numbers = openpi_statistics(values, processor.normalization[kind], processor.formula)
        stats[key] = {name: numbers[name].tolist() for name in ("mean", "std", "q01", "q99")}
    write_json(folder / "assets" / asset_id / "norm_stats.json", {"norm_stats": stats})
    write_atomic(folder / NOTE, openpi_note(processor, asset_id).encode())


def openpi_note(processor: Processor, asset_id: str) -> str:
    """Return the lines of openpi's configuration that this policy needs, as Markdown."""
    discrete = processor.prompt_format != "none"
    slots = "\n".join(
        f"| `{OPENPI_SLOTS[slot]}` | {'empty: a black picture with image_mask False' if key is None else f'`{key}`'} |"
        for slot, key in processor.slots.by_slot.items()
    )
    return f"""# This policy in openpi

The folder holds weights and statistics. What follows is read by openpi from its Python configuration
(`src/openpi/training/config.py`), not from the folder; with other values the policy moves wrongly and nothing warns.

```python
TrainConfig(
    name="my_policy",
    model=pi0_config.Pi0Config(
        pi05=True,
        action_dim={processor.action_dim},
        action_horizon={processor.horizon},
        max_token_len={processor.max_prompt_tokens},
        discrete_state_input={discrete},
    ),
    data=SimpleDataConfig(
        assets=AssetsConfig(asset_id={asset_id!r}),
        data_transforms=lambda model: _transforms.Group(
            inputs=[MyInputs(model_type=model.model_type){_delta(processor, "DeltaActions")}],
            outputs=[{_delta(processor, "AbsoluteActions", before=True)}MyOutputs()],
        ),
    ),
)
```

`MyInputs` returns `state` with {processor.state_dim} numbers and one picture for each slot; `MyOutputs` returns
`actions[:, :{processor.robot_action_dim}]`.{_aloha(processor)}

| slot | camera |
|---|---|
{slots}

State: {_named(processor.state_names, processor.state_dim)}. Actions:
{_named(processor.action_names, processor.robot_action_dim)}.
"""


def _aloha(processor: Processor) -> str:
    if not looks_like_aloha(processor.state_dim, processor.robot_action_dim):
        return ""
    return (
        " With openpi's own `AlohaInputs` and `AlohaOutputs`, give both `adapt_to_pi=False`: this policy was trained\n"
        "on the robot's own joints and grippers."
    )


def _delta(processor: Processor, transform: str, before: bool = False) -> str:
    if processor.relative_mask is None:
        return ""
    call = f"_transforms.{transform}({list(processor.relative_mask)})"
    return f"{call}, " if before else f", {call}"


def _named(names: tuple[str, ...], count: int) -> str:
    return ", ".join(names) if names else f"{count} numbers without names"
