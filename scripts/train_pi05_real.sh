#!/usr/bin/env bash
# Fine-tune π₀.₅ on recordings of your own robot (any LeRobot data set, v2.0 to v3.0).
#
#   bash scripts/train_pi05_real.sh                       as set below
#   PRESET=tiny bash scripts/train_pi05_real.sh           the same chain on a CPU, in minutes, to see it run
#   bash scripts/train_pi05_real.sh --seed=7              further flags of `pi05 train` go through
#
# Set variables here or in the environment. Empty: what the preset says. Names of the hub are looked for in the folders
# pi05_base_model/, paligemma_model/ (tokenizer) and local_dataset/ in the working directory, beside scripts/ and in it,
# then in the hub's cache, then fetched (not with HF_HUB_OFFLINE=1). HF_ENDPOINT=https://hf-mirror.com is a mirror.
set -euo pipefail

PRESET="${PRESET:-real}"                         # real, or tiny for a CPU

# Where to start from, and what to learn from: a folder, or OWNER/NAME (@REVISION) on the hub.
BASE_MODEL="${BASE_MODEL:-lerobot/pi05_base}"
TOKENIZER="${TOKENIZER:-}"                       # empty: the one that the base holds or names
DATASET="${DATASET:-}"                           # your recordings; empty: local_dataset/
RENAME_MAP="${RENAME_MAP:-}"                     # '{my_camera: scene, other: left_wrist}'; found by name where it can be

# How to train. Preset real: 20,000 steps of 32 samples, chunks of 50 actions.
METHOD="${METHOD:-full}"                         # full, lora, qlora, frozen-vision or expert
STEPS="${STEPS:-}"                               # 20000
BATCH_SIZE="${BATCH_SIZE:-}"                     # 32 per GPU and pass
GLOBAL_BATCH_SIZE="${GLOBAL_BATCH_SIZE:-}"       # in total, instead
GRADIENT_ACCUMULATION="${GRADIENT_ACCUMULATION:-}"  # 1; raise it, and lower BATCH_SIZE, where memory is short
LEARNING_RATE="${LEARNING_RATE:-}"               # 2.5e-5
NUM_WORKERS="${NUM_WORKERS:-}"                   # 2
LORA_RANK="${LORA_RANK:-}"                       # of METHOD=lora and qlora; empty: 16
LORA_ALPHA="${LORA_ALPHA:-}"                     # empty: the rank

# Where the run goes, and who may watch it.
JOB_NAME="${JOB_NAME:-pi05_real}"
OUTPUT_DIR="${OUTPUT_DIR:-}"                     # runs/JOB_NAME-DATE-TIME
WANDB="${WANDB:-false}"                          # true to send metrics to Weights & Biases as well
WANDB_PROJECT="${WANDB_PROJECT:-pi05}"
WANDB_ENTITY="${WANDB_ENTITY:-}"
WANDB_MODE="${WANDB_MODE:-online}"               # online, offline or disabled
HUB_REPO="${HUB_REPO:-}"                         # OWNER/NAME to publish the policy there when training is done

source "$(dirname "${BASH_SOURCE[0]}")/resolve.sh"
source "$HERE/train.sh"
