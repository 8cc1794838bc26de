#!/usr/bin/env bash
# Measure a policy's success rate in a simulator; writes a report with pictures.
#
#   POLICY=runs/pi05_libero-20260101-120000 bash scripts/eval_pi05.sh
#   POLICY=... bash scripts/eval_pi05.sh --swap_instruction    further flags of `pi05 eval` go through
#
# Set variables here or in the environment. Empty: what the checkpoint or the program says.
set -euo pipefail

POLICY="${POLICY:-}"                             # a run, a checkpoint, OWNER/NAME on the hub; empty: the newest run in runs/
ENVIRONMENT="${ENVIRONMENT:-tabletop}"           # tabletop
FAMILY="${FAMILY:-demo}"                         # objects and instructions of tabletop: demo or base
EPISODES="${EPISODES:-50}"
NUM_ENVS="${NUM_ENVS:-}"                         # environments side by side
SEED="${SEED:-0}"                                # chooses the layouts
N_ACTION_STEPS="${N_ACTION_STEPS:-}"             # actions executed before looking again; empty: as trained
DEVICE="${DEVICE:-}"                             # cpu, cuda, cuda:N; empty: CUDA where there is a GPU
OUTPUT_DIR="${OUTPUT_DIR:-}"                     # empty: a new folder in the run

source "$(dirname "${BASH_SOURCE[0]}")/resolve.sh"

if [[ -z "$POLICY" && -d runs ]]; then
  POLICY="$(find runs -mindepth 3 -maxdepth 3 -path '*/checkpoints/last' -printf '%T@ %h\n' | sort -n | tail -1 | cut -d' ' -f2-)"
  POLICY="${POLICY%/checkpoints}"
fi
[[ -n "$POLICY" ]] || stop "no policy was given, and runs/ holds none" "POLICY=RUN bash scripts/eval_pi05.sh"
[[ -d "$POLICY" || "$POLICY" == */* ]] || stop "there is no policy at $POLICY" "POLICY=RUN, the folder that pi05 train has written"

add policy.path "$POLICY"
add env "$ENVIRONMENT"
add family "$FAMILY"
add episodes "$EPISODES"
add num_envs "$NUM_ENVS"
add seed "$SEED"
add policy.n_action_steps "$N_ACTION_STEPS"
add policy.device "$DEVICE"
add output_dir "$OUTPUT_DIR"

exec "$PI05" eval "${FLAGS[@]}" "$@"
