"""Names of the files in a checkpoint folder, of pi05, LeRobot and PEFT alike. Knows nothing of what is in them."""

from __future__ import annotations

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
