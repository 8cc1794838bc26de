"""Only what is needed travels."""

from __future__ import annotations

import pytest

from pi05.sources.names import Source
from pi05.sources.wanted import choose_model, choose_tokenizer, first_files, metadata_files

SMALL = ["README.md", "config.json", "policy_preprocessor.json", "policy_preprocessor_step_2_normalizer.safetensors"]


@pytest.mark.parametrize(
    ("extra", "kept"),
    [
        (["model.safetensors", "pytorch_model.bin", "model.onnx", ".gitattributes"], ["model.safetensors"]),
        (
            ["model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json"],
            ["model.safetensors"],
        ),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
        ),
        (
            ["model.safetensors", "checkpoints/005000/pretrained_model/model.safetensors", "tokenizer/tokenizer.json"],
            ["model.safetensors", "tokenizer/tokenizer.json"],
        ),
        (["params/d/0", "params/manifest.ocdbt", "train_state/d/0", "assets/lab/norm_stats.json"], None),
        (["model.safetensors", "training_state/optimizer_state.safetensors", "runs/events.out"], ["model.safetensors"]),
        (["model.safetensors", "params/d/0"], ["model.safetensors"]),
        (["adapter_model.safetensors", "adapter_config.json", "adapter_model.bin"], None),
    ],
)
def test_one_copy_of_the_weights(extra: list[str], kept: list[str] | None) -> None:
    left_out = {"train_state/d/0", "adapter_model.bin"}
    wanted = [name for name in extra if name not in left_out] if kept is None else kept
    assert choose_model(sorted([*SMALL, *extra])) == sorted([*SMALL, *wanted])


def test_weights_that_pi05_cannot_read_are_all_there_is() -> None:
    names = ["config.json", "policy_preprocessor_step_2.safetensors", "pytorch_model.bin"]
    assert choose_model(names) == names, "its reader says what is wrong with them"


def test_a_tokenizer_is_not_the_eleven_gigabytes_beside_it() -> None:
    names = ["model-00001-of-00003.safetensors", "tokenizer.json", "tokenizer.model", "tokenizer_config.json"]
    assert choose_tokenizer(names) == ["tokenizer.json", "tokenizer_config.json"]
    assert choose_tokenizer(["tokenizer.model", "config.json"]) == ["tokenizer.model"]
    assert choose_tokenizer(["tokenizer/tokenizer.json"]) == ["tokenizer/tokenizer.json"]
    assert choose_tokenizer(["model.safetensors"]) == []


def test_a_data_set_is_all_of_it() -> None:
    names = ["README.md", ".gitattributes", "meta/info.json", "data/chunk-000/file-000.parquet"]
    source = Source(name="lab/cubes", kind="dataset")
    assert first_files(source, names) == sorted(names[:1] + names[2:])
    assert metadata_files(names) == ["README.md", "meta/info.json"]
