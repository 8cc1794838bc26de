"""LeRobot's side of `interop_lerobot.py`: its own policy, processors and commands, on a network of tiny sizes.

Runs in LeRobot's environment and never imports pi05. Only sizes are set from outside, since LeRobot has those of π₀.₅
built in (`shrink`); loading, processors, sampling, training and evaluation are LeRobot's.

It imports LeRobot once, then takes commands as JSON lines on standard input, each of which runs in a process of its own
(a fork) with the working directory and environment that it names:

    base OUT               a base folder as LeRobot saves it, all weights drawn
    actions FOLDER IN OUT  load a folder; actions for the given observations and noise
    tokens FOLDER IN OUT   ids that AutoTokenizer gives for texts
    describe OUT           versions, and the fields of a policy's config.json
    train|eval|rollout …   lerobot-train, lerobot-eval, lerobot-rollout with their own flags
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interop_sizes import ACTION_DIM, CAMERAS, SIZES, STATE_DIM
from lerobot.configs import PreTrainedConfig
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies import make_pre_post_processors
from lerobot.policies.pi05 import modeling_pi05
from lerobot.policies.pi05.configuration_pi05 import PI05Config
from lerobot.rollout.context import _load_pretrained_policy
from lerobot.scripts import lerobot_eval, lerobot_rollout, lerobot_train
from transformers import AutoTokenizer


def main() -> None:
    """Answer each command with its exit status, until standard input ends.

    The only other thread is that of the memory allocator (jemalloc), which knows about forks.
    """
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    shrink()
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            run(job)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(job: dict[str, Any]) -> None:
    """Run one command in this (forked) process and end it; all output goes to the job's log."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    status = 1
    try:
        os.chdir(job["directory"])
        os.environ.update(job["environment"])
        command, *arguments = job["words"]
        if command in COMMANDS:
            COMMANDS[command](*map(Path, arguments))
        else:
            run_lerobot(command, arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def shrink() -> None:
    """Give LeRobot's constructors the tiny sizes."""
    heads = (SIZES["num_heads"], SIZES["num_kv_heads"], SIZES["head_dim"])
    variants = {
        "gemma_2b": (SIZES["language_width"], SIZES["depth"], SIZES["language_mlp"], *heads),
        "gemma_300m": (SIZES["expert_width"], SIZES["depth"], SIZES["expert_mlp"], *heads),
    }
    modeling_pi05.get_gemma_config = lambda variant: modeling_pi05.GemmaConfig(*variants[variant])
    make_paligemma = modeling_pi05.PaliGemmaForConditionalGenerationWithPiGemma
    make_expert = modeling_pi05.PiGemmaForCausalLM

    def paligemma(config: Any) -> torch.nn.Module:
        config.text_config.vocab_size = config._vocab_size = SIZES["vocab_size"]
        config.image_token_index = SIZES["vocab_size"] - 1
        config.vision_config.hidden_size = SIZES["vision_width"]
        config.vision_config.intermediate_size = SIZES["vision_mlp"]
        config.vision_config.num_hidden_layers = SIZES["vision_depth"]
        config.vision_config.num_attention_heads = SIZES["vision_heads"]
        config.vision_config.projection_dim = SIZES["language_width"]
        return make_paligemma(config=config)

    def gemma(config: Any) -> torch.nn.Module:
        config.vocab_size = SIZES["vocab_size"]
        return make_expert(config=config)

    modeling_pi05.PaliGemmaForConditionalGenerationWithPiGemma = paligemma
    modeling_pi05.PiGemmaForCausalLM = gemma


def base(out: Path) -> None:
    """Save a policy with every weight drawn, and its processors, as LeRobot's training does."""
    config = PI05Config(
        device="cpu",
        push_to_hub=False,
        chunk_size=SIZES["horizon"],
        n_action_steps=SIZES["horizon"],
        tokenizer_max_length=SIZES["max_prompt_tokens"],
        input_features={
            **{key: PolicyFeature(type=FeatureType.VISUAL, shape=(3, *size)) for key, size in CAMERAS.items()},
            "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(STATE_DIM,)),
        },
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(ACTION_DIM,))},
    )
    policy = modeling_pi05.PI05Policy(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():  # LeRobot starts some at zero, which would hide what they do
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    policy.save_pretrained(out)
    for processor in make_pre_post_processors(config):
        processor.save_pretrained(out)


def actions(folder: Path, observations: Path, out: Path) -> None:
    """Write tokens, normalised state, normalised actions and actions in robot units for each observation."""
    config = PreTrainedConfig.from_pretrained(folder)
    config.pretrained_path = folder
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        policy = load(folder, config)
    overrides = {"device_processor": {"device": "cpu"}, "rename_observations_processor": {"rename_map": {}}}
    before, after = make_pre_post_processors(
        policy_cfg=config, pretrained_path=str(folder), preprocessor_overrides=overrides
    )  # the call of lerobot-eval and lerobot-rollout
    given = np.load(observations)
    result: dict[str, np.ndarray] = {}
    for i, task in enumerate(json.loads(str(given["tasks"]))):
        keys = [key.split("/", 1)[1] for key in given.files if key.startswith(f"{i}/observation.")]
        batch: dict[str, Any] = {key: as_tensor(given[f"{i}/{key}"]) for key in keys}
        batch = before(batch | {"task": task})
        chunk = policy.predict_action_chunk(batch, noise=torch.from_numpy(given[f"{i}/noise"])[None])
        mask = batch["observation.language.attention_mask"][0]
        result[f"{i}/tokens"] = batch["observation.language.tokens"][0][mask].numpy()
        result[f"{i}/state"] = batch["observation.state"][0].numpy()
        result[f"{i}/normalised"] = chunk[0].numpy()
        result[f"{i}/actions"] = after(chunk)[0].numpy()
    np.savez(out, all_keys="All keys loaded successfully!" in printed.getvalue(), **result)  # type: ignore[arg-type]


def load(folder: Path, config: PreTrainedConfig) -> Any:
    """Load weights: `PI05Policy.from_pretrained`; an adapter the way lerobot-rollout does."""
    if not config.use_peft:
        return modeling_pi05.PI05Policy.from_pretrained(folder)
    return _load_pretrained_policy(config)


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """Return what LeRobot's data sets and robots give: pictures as float32 [3, h, w] in 0..1, numbers as they are."""
    tensor = torch.from_numpy(array)
    return tensor.permute(2, 0, 1).to(torch.float32) / 255 if tensor.dtype == torch.uint8 else tensor


def tokens(folder: Path, texts: Path, out: Path) -> None:
    """Write the ids that the tokenizer in `folder` gives, called as LeRobot's processor calls it."""
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    options = {"max_length": 200, "truncation": True, "padding": "max_length", "padding_side": "right"}
    given = tokenizer(json.loads(texts.read_text()), **options)
    pairs = zip(given["input_ids"], given["attention_mask"], strict=True)
    ids = [[token for token, real in zip(row, mask, strict=True) if real] for row, mask in pairs]
    out.write_text(json.dumps({"class": type(tokenizer).__name__, "ids": ids}))


def describe(out: Path) -> None:
    """Write versions and the fields that this version's config.json may have."""
    names = ("lerobot", "torch", "transformers", "peft", "tokenizers", "numpy")
    fields = ["type", *(field.name for field in dataclasses.fields(PI05Config))]
    told = {"versions": {name: version(name) for name in names}, "fields": fields}
    out.write_text(json.dumps(told | {"python": sys.version.split()[0]}))


def run_lerobot(command: str, arguments: list[str]) -> None:
    """Run one of LeRobot's own commands in this process, so that it sees the tiny sizes."""
    sys.argv = [f"lerobot-{command}", *arguments]
    if command != "train":
        import lerobot_tabletop  # noqa: F401  registers the simulator
    {"train": lerobot_train, "eval": lerobot_eval, "rollout": lerobot_rollout}[command].main()


COMMANDS: dict[str, Callable[..., None]] = {"base": base, "actions": actions, "tokens": tokens, "describe": describe}

if __name__ == "__main__":
    main()
