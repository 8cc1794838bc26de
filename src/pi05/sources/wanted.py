"""Which files of a repository are needed: of a tokenizer its own, one copy of the weights, all of a data set.

Goes by the names of files. What the chosen episodes of a data set need is told by its metadata
(`data/wanted.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from pi05.sources.names import Source

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json")
"""In a repository, or in its folder tokenizer/. The first two hold the same tokenizer; one is enough."""
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".onnx", ".gguf", ".tflite", ".npz", ".engine")
"""Weights in other programs' formats, which pi05 does not read or a safetensors file beside them holds as well."""
LEFT_OUT = (".git", ".cache", "training_state", "train_state", "optimizer_state", "runs", "wandb")
"""Folders that no reader of a policy looks into."""

Needed = Callable[[Path, Sequence[str]], list[str]]
"""From a folder that holds a data set's metadata, and all names of the repository where they are known (else none): the
files that are needed besides."""


def first_files(source: Source, files: Iterable[str]) -> list[str]:
    """Return the files that are needed before anything is known of their content."""
    names = sorted(files)
    if source.kind == "tokenizer":
        return choose_tokenizer(names)
    if source.kind == "model":
        return choose_model(names)
    return [name for name in names if not _is_left_out(name)]


def metadata_files(files: Iterable[str]) -> list[str]:
    """Return the files of a data set that tell about it."""
    return sorted(name for name in files if name.startswith("meta/") or name == "README.md")


def choose_tokenizer(names: list[str]) -> list[str]:
    """Return the tokenizer's files: those of the first folder that holds one, and of two formats one."""
    for folder in ("", "tokenizer/"):
        there = [name for name in TOKENIZER_FILES if folder + name in names]
        if "tokenizer.json" in there:
            return [folder + name for name in there if name != "tokenizer.model"]
        if "tokenizer.model" in there:
            return [folder + name for name in there]
    return []


def choose_model(names: list[str]) -> list[str]:
    """Return a policy's files with one copy of its weights: of shards and a whole file the whole one.

    Weights of other programs go along only where there are none that pi05 reads. Folders below that hold weights of
    their own (checkpoints of a run) are left out where the top holds a policy.
    """
    kept = [name for name in names if not _is_left_out(name)]
    top = {name for name in kept if "/" not in name}
    if WEIGHTS in top:
        kept = [name for name in kept if name != INDEX and not _is_shard(name)]
    readable = [name for name in kept if name.endswith(".safetensors") or name.startswith("params/")]
    if any("processor" not in name for name in readable):
        kept = [name for name in kept if not name.endswith(OTHER_WEIGHTS)]
    if {WEIGHTS, INDEX, "adapter_model.safetensors"} & top:
        below = {str(PurePosixPath(name).parent) for name in kept if "/" in name and name.endswith(".safetensors")}
        kept = [name for name in kept if str(PurePosixPath(name).parent) not in below]
        kept = [name for name in kept if not name.startswith("params/")]
    return kept


def _is_left_out(name: str) -> bool:
    return any(part in LEFT_OUT for part in PurePosixPath(name).parts[:-1]) or name == ".gitattributes"


def _is_shard(name: str) -> bool:
    return name.startswith("model-") and "-of-" in name and name.endswith(".safetensors")
