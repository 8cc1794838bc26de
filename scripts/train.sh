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

# pi05 train looks names up in the folders of the lab, in the hub's cache, and then on the hub.
if [[ -n "$DATASET" && ! -e "$DATASET" && "$DATASET" == */* ]]; then
  add dataset.repo_id "$DATASET"
else
  add dataset.root "${DATASET:-local_dataset}"
fi
if [[ "$PRESET" != tiny ]]; then
  add policy.path "$BASE_MODEL"
  add policy.tokenizer_path "$TOKENIZER"
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
