#!/usr/bin/env bash
# Fine-tune π₀.₅ for the LIBERO simulator with openpi's recipe.
#
#   bash scripts/train_pi05_sim.sh                        as set below
#   PRESET=tiny bash scripts/train_pi05_sim.sh            the same chain on a CPU, in minutes, to see it run
#   bash scripts/train_pi05_sim.sh --seed=7               further flags of `pi05 train` go through
#
# Set variables here or in the environment. Empty: what the preset says. Names of the hub are looked for in the folders
# pi05_base_model/, paligemma_model/ (tokenizer) and local_dataset/ in the working directory, beside scripts/ and in it,
# then in the hub's cache, then fetched (not with HF_HUB_OFFLINE=1). HF_ENDPOINT=https://hf-mirror.com is a mirror.
set -euo pipefail

PRESET="${PRESET:-sim}"                          # sim, or tiny for a CPU

# Where to start from, and what to learn from: a folder, or OWNER/NAME (@REVISION) on the hub.
BASE_MODEL="${BASE_MODEL:-lerobot/pi05_base}"
TOKENIZER="${TOKENIZER:-}"                       # empty: the one that the base holds or names
# Camera of the data set → slot. LIBERO's two cameras are called image (scene) and image2 (wrist).
if [[ "$PRESET" == sim ]]; then
  DATASET="${DATASET:-HuggingFaceVLA/libero}"
  RENAME_MAP="${RENAME_MAP:-{observation.images.image: scene, observation.images.image2: left_wrist\}}"
else
  DATASET="${DATASET:-}"                         # empty: local_dataset/
  RENAME_MAP="${RENAME_MAP:-}"
fi

# How to train. Preset sim: 30,000 steps of 256 samples = 8 passes of 32 on one 141 GB GPU.
METHOD="${METHOD:-full}"                         # full, lora, qlora, frozen-vision or expert
STEPS="${STEPS:-}"                               # 30000
BATCH_SIZE="${BATCH_SIZE:-}"                     # per GPU and pass, instead of the total
GLOBAL_BATCH_SIZE="${GLOBAL_BATCH_SIZE:-}"       # 256 in total
GRADIENT_ACCUMULATION="${GRADIENT_ACCUMULATION:-}"  # 8; raise it where memory is short
LEARNING_RATE="${LEARNING_RATE:-}"               # 5e-5
NUM_WORKERS="${NUM_WORKERS:-}"                   # 2
LORA_RANK="${LORA_RANK:-}"                       # of METHOD=lora and qlora; empty: 16
LORA_ALPHA="${LORA_ALPHA:-}"                     # empty: the rank

# Where the run goes, and who may watch it.
JOB_NAME="${JOB_NAME:-pi05_libero}"
OUTPUT_DIR="${OUTPUT_DIR:-}"                     # runs/JOB_NAME-DATE-TIME
WANDB="${WANDB:-false}"                          # true to send metrics to Weights & Biases as well
WANDB_PROJECT="${WANDB_PROJECT:-pi05}"
WANDB_ENTITY="${WANDB_ENTITY:-}"
WANDB_MODE="${WANDB_MODE:-online}"               # online, offline or disabled
HUB_REPO="${HUB_REPO:-}"                         # OWNER/NAME to publish the policy there when training is done

source "$(dirname "${BASH_SOURCE[0]}")/resolve.sh"
source "$HERE/train.sh"
