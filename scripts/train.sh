# Shared by train_pi05_sim.sh and train_pi05_real.sh, which set the variables and source it: from those variables to one
# call of `pi05 train`.

case "$METHOD" in
  full) ;;
  frozen-vision) FLAGS+=(--policy.freeze_vision_encoder=true) ;;
  expert) FLAGS+=(--policy.train_expert_only=true) ;;
  lora | qlora) FLAGS+=("--method=$METHOD") ;;
  *) stop "METHOD=$METHOD is not known" "METHOD=full, lora, qlora, frozen-vision or expert" ;;
esac
if [[ "$METHOD" != *lora && -n "$LORA_RANK$LORA_ALPHA" ]]; then
  stop "LORA_RANK and LORA_ALPHA belong to METHOD=lora or qlora, and METHOD is $METHOD" \
    "METHOD=lora, or leave them empty"
fi
add peft.r "$LORA_RANK"
add peft.lora_alpha "$LORA_ALPHA"

dataset="$(folder_of "$DATASET" local_dataset)"
if [[ -z "$dataset" ]]; then
  if [[ "$PRESET" == tiny ]]; then
    stop "there is no data set" "pi05 collect --episodes=100 --output=$HERE/local_dataset, or DATASET=FOLDER"
  fi
  if [[ -z "$DATASET" ]]; then
    stop "there is no data set in $HERE/local_dataset" "put or link your recordings there, or DATASET=FOLDER"
  fi
  stop "there is no data set in $HERE/local_dataset, and $DATASET cannot be downloaded by this version" \
    "hf download $DATASET --repo-type dataset --local-dir $HERE/local_dataset, or DATASET=FOLDER"
fi
add dataset.root "$dataset"

if [[ "$PRESET" != tiny ]]; then
  base="$(folder_of "$BASE_MODEL" pi05_base_model)"
  [[ -n "$base" ]] || stop \
    "there is no base model in $HERE/pi05_base_model, and $BASE_MODEL cannot be downloaded by this version" \
    "hf download $BASE_MODEL --local-dir $HERE/pi05_base_model, or BASE_MODEL=FOLDER"
  add policy.path "$base"
  # The base checkpoints on the hub hold no tokenizer; those that pi05 writes do.
  tokenizer="$(folder_of "$TOKENIZER" paligemma_model)"
  if [[ -z "$tokenizer" && -z "$(find -L "$base" -maxdepth 2 -name 'tokenizer.*' -print -quit)" ]]; then
    stop "there is no tokenizer in $base or in $HERE/paligemma_model" \
      "hf download $TOKENIZER tokenizer.json --local-dir $HERE/paligemma_model (accept its licence first)"
  fi
  add policy.tokenizer_path "$tokenizer"
fi

add preset "$PRESET"
add steps "$STEPS"
add batch_size "$BATCH_SIZE"
add global_batch_size "$GLOBAL_BATCH_SIZE"
add gradient_accumulation_steps "$GRADIENT_ACCUMULATION"
add policy.optimizer_lr "$LEARNING_RATE"
add rename_map "$RENAME_MAP"
add num_workers "$NUM_WORKERS"
add output_dir "$OUTPUT_DIR"
add job_name "$JOB_NAME"
if [[ "$WANDB" == true ]]; then
  add wandb.enable true
  add wandb.project "$WANDB_PROJECT"
  add wandb.entity "$WANDB_ENTITY"
  add wandb.mode "$WANDB_MODE"
fi

if [[ -n "$HUB_REPO" ]]; then
  add policy.push_to_hub true
  add policy.repo_id "$HUB_REPO"
fi

exec "$PI05" train "${FLAGS[@]}" "$@"
