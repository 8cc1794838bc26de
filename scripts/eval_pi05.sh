#!/usr/bin/env bash
# Measure a policy's success rate: in LIBERO's four suites, with one summary table, or in the embedded simulator.
# Writes a report with pictures. Interrupted, it goes on when it is run again with the same OUTPUT_DIR.
#
#   POLICY=runs/pi05_libero-20260101-120000 bash scripts/eval_pi05.sh
#   ENVIRONMENT=tabletop POLICY=... bash scripts/eval_pi05.sh --swap_instruction    further flags of `pi05 eval` go through
#
# Set variables here or in the environment. Empty: what the protocol, the checkpoint or the program says.
set -euo pipefail

POLICY="${POLICY:-}"                             # a run, a checkpoint, OWNER/NAME on the hub; empty: the newest run in runs/
ENVIRONMENT="${ENVIRONMENT:-libero}"             # libero or tabletop
SUITES="${SUITES:-libero_spatial libero_object libero_goal libero_10}"   # of libero, one after another
PROTOCOL="${PROTOCOL:-}"                         # of libero: openpi or lerobot (docs/evaluation.md)
EPISODES_PER_TASK="${EPISODES_PER_TASK:-}"       # of libero
WORKERS="${WORKERS:-}"                           # processes with one environment each; empty: one per CPU core in libero
FAMILY="${FAMILY:-demo}"                         # objects and instructions of tabletop: demo or base
EPISODES="${EPISODES:-50}"                       # of tabletop
NUM_ENVS="${NUM_ENVS:-}"                         # of tabletop: environments side by side
SEED="${SEED:-}"                                 # chooses layouts and noise
N_ACTION_STEPS="${N_ACTION_STEPS:-}"             # actions executed before looking again
RENAME_MAP="${RENAME_MAP:-}"                     # camera of the environment to the policy's, as JSON
DEVICE="${DEVICE:-}"                             # cpu, cuda, cuda:N; empty: CUDA where there is a GPU
OUTPUT_DIR="${OUTPUT_DIR:-}"                     # empty: a new folder in the run (tabletop), outputs/libero-DATE (libero)

source "$(dirname "${BASH_SOURCE[0]}")/resolve.sh"

if [[ -z "$POLICY" && -d runs ]]; then
  POLICY="$(find runs -mindepth 3 -maxdepth 3 -path '*/checkpoints/last' -printf '%T@ %h\n' | sort -n | tail -1 | cut -d' ' -f2-)"
  POLICY="${POLICY%/checkpoints}"
fi
[[ -n "$POLICY" ]] || stop "no policy was given, and runs/ holds none" "POLICY=RUN bash scripts/eval_pi05.sh"
[[ -d "$POLICY" || "$POLICY" == */* ]] || stop "there is no policy at $POLICY" "POLICY=RUN, the folder that pi05 train has written"

add policy.path "$POLICY"
add workers "$WORKERS"
add seed "$SEED"
add policy.n_action_steps "$N_ACTION_STEPS"
add rename_map "$RENAME_MAP"
add policy.device "$DEVICE"

if [[ "$ENVIRONMENT" == tabletop ]]; then
  add env tabletop
  add family "$FAMILY"
  add episodes "$EPISODES"
  add num_envs "$NUM_ENVS"
  add output_dir "$OUTPUT_DIR"
  exec "$PI05" eval "${FLAGS[@]}" "$@"
fi
[[ "$ENVIRONMENT" == libero ]] || stop "there is no environment $ENVIRONMENT" "ENVIRONMENT=libero or ENVIRONMENT=tabletop"

add env libero
add protocol "$PROTOCOL"
add episodes_per_task "$EPISODES_PER_TASK"
OUTPUT_DIR="${OUTPUT_DIR:-outputs/libero-$(date +%Y%m%d-%H%M%S)}"
DONE=()
for suite in $SUITES; do
  DONE+=("$OUTPUT_DIR/$suite")
  if [[ ! -f "$OUTPUT_DIR/$suite/results.json" ]]; then
    "$PI05" eval "${FLAGS[@]}" --suite="$suite" --output_dir="$OUTPUT_DIR/$suite" --resume "$@"
  fi
done
exec "$PI05" report "${DONE[@]}" --output="$OUTPUT_DIR"
