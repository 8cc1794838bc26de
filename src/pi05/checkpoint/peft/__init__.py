"""LoRA adapters in PEFT's files, and the base weights that they sit on."""
