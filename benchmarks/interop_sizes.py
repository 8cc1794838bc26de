"""The tiny network that `interop_lerobot.py` uses on both sides: sizes under the names of pi05's ModelConfig.

LeRobot has 8 heads and 224 px built in; all else is small. No imports: both Pythons read this file.
"""

SIZES = {
    "image_size": 224,
    "patch_size": 14,
    "vision_width": 48,
    "vision_depth": 2,
    "vision_mlp": 80,
    "vision_heads": 4,
    "vocab_size": 1024,
    "language_width": 64,
    "language_mlp": 128,
    "expert_width": 32,
    "expert_mlp": 96,
    "depth": 3,
    "num_heads": 8,
    "num_kv_heads": 1,
    "head_dim": 16,
    "action_dim": 32,
    "horizon": 10,
    "max_prompt_tokens": 48,
}
TOKENIZER = "google/paligemma-3b-pt-224"
"""The name that LeRobot's processors look up."""
CAMERAS = {"observation.images.scene": (48, 48), "observation.images.wrist": (48, 48)}
"""Cameras of the table-top data set: height and width in pixels."""
STATE_DIM = ACTION_DIM = 3
