"""What is a name, and what it means; names of repositories are judged as the hub's client judges them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi05.errors import ConfigError
from pi05.sources.names import parse_name, parse_wish, valid_name


@given(st.text(alphabet="aZ0-_./é ", min_size=0, max_size=12) | st.text(max_size=200))
def test_names_are_judged_as_the_client_judges_them(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        assert not valid_name(name)
    else:
        assert valid_name(name)


@pytest.mark.parametrize(
    ("text", "name", "kind", "revision", "folder"),
    [
        ("base", "lerobot/pi05_base", "model", None, "pi05_base_model"),
        ("libero-base@v2", "lerobot/pi05_libero_base", "model", "v2", "pi05_libero_base_model"),
        ("tokenizer", "google/paligemma-3b-pt-224", "tokenizer", None, "paligemma_model"),
        ("google/paligemma-3b-pt-224", "google/paligemma-3b-pt-224", "tokenizer", None, "paligemma_model"),
        ("libero", "HuggingFaceVLA/libero", "dataset", None, "local_dataset"),
        ("libero-assets", "lerobot/libero-assets", "assets", None, "libero-assets"),
        ("lab/arm@9e55186a", "lab/arm", "model", "9e55186a", "arm"),
    ],
)
def test_what_a_wish_means(text: str, name: str, kind: str, revision: str | None, folder: str) -> None:
    source = parse_wish(text)
    assert (source.name, source.kind, source.revision, source.folder) == (name, kind, revision, folder)
    again = parse_wish(source.command().split()[2])
    assert (again.name, again.revision) == (name, revision), "the command that is proposed means the same"


def test_a_data_set_and_a_tokenizer_by_name() -> None:
    assert parse_wish("lab/cubes", "dataset").folder == "local_dataset"
    assert parse_wish("lab/cubes", "dataset").command() == "pi05 fetch lab/cubes --repo-type=dataset"
    assert parse_wish("lab/arm", tokenizer_only=True).command() == "pi05 fetch lab/arm --tokenizer_only"


@pytest.mark.parametrize("text", ["nothing", "a/b/c", "lab/arm@", "lab/arm@../x", "base@", "../x", "lab/--x"])
def test_what_is_no_wish_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_wish(text)


def test_a_word_has_its_own_type() -> None:
    with pytest.raises(ConfigError, match="libero is a dataset"):
        parse_wish("libero", "model")


def test_a_path_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_name("runs/first", "model") is not None
    for folder in ("runs", "lerobot"):
        (tmp_path / folder).mkdir()
    assert parse_name("runs/first", "model") is None, "a folder that is there, and a run that is not"
    assert parse_name("lerobot/pi05_base", "model") is not None, "beside a clone of LeRobot"
    for text in ("./runs/first", "/runs/first", "~/first", "one", "a/b/c", ""):
        assert parse_name(text, "model") is None
