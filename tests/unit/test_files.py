"""Files: whole or untouched whatever happens, room asked for before, JSON objects that are objects."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from full_disk import largest_file

from pi05.errors import CheckpointError, DataError, UserError
from pi05.files import (
    HEADROOM,
    free_bytes,
    inside,
    is_lfs_pointer,
    parse_json,
    read_json,
    read_notes,
    read_regular,
    replacing,
    require_space,
    size_text,
    write_atomic,
    write_json,
)


def test_write_atomic_keeps_the_old_content_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "file"
    write_atomic(path, b"old")
    with largest_file(10), pytest.raises(OSError, match="File too large"):
        write_atomic(path, b"new content that does not fit")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_an_interruption_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")

    def interrupted() -> None:
        with replacing(tmp_path / "file") as temporary:
            temporary.write_text("half of the n")
            assert (tmp_path / "file").read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("file", "old")]


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})


def test_json_is_read_back(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1, "π"]})
    assert read_json(tmp_path / "x.json") == read_notes(tmp_path / "x.json") == {"a": [1, "π"]}


@pytest.mark.parametrize("text", ["{", "[1]", "\udc80", None])
def test_what_is_no_json_object_is_refused_or_passed_over(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "x.json"
    if text is not None:
        path.write_bytes(text.encode(errors="surrogateescape"))
    assert read_notes(path) == {}
    with pytest.raises(CheckpointError, match=r"x\.json"):
        read_json(path)


def test_a_disk_without_room_is_noticed_in_the_callers_words(tmp_path: Path) -> None:
    require_space(tmp_path, 1_000, "a copy", DataError, "make room")
    with pytest.raises(DataError, match="no room on the disk for a copy") as refusal:
        require_space(tmp_path, 2 * free_bytes(tmp_path), "a copy", DataError, "make room")
    assert refusal.value.remedy == "make room"


def test_the_room_that_is_asked_for_is_more_than_is_found(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refusal:  # fits by itself, and leaves too little over
        require_space(tmp_path, free_bytes(tmp_path) - HEADROOM // 2, "a copy", DataError, "make room")
    wanted, found = (
        float(str(text).split(" MB")[0].replace(",", "")) for text in (refusal.value.wanted, refusal.value.found)
    )
    assert wanted > found


def test_sizes_have_three_digits() -> None:
    texts = [size_text(size) for size in (7, 999, 12_345, 6_700_000, 7_473_096_344)]
    assert texts == ["7 bytes", "999 bytes", "12.3 kB", "6.7 MB", "7.473 GB"]


def test_a_pointer_of_git_lfs_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "pointer").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n")
    (tmp_path / "real").write_text(json.dumps({"version": 1}))
    assert is_lfs_pointer(tmp_path / "pointer")
    assert not is_lfs_pointer(tmp_path / "real")


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "[Infinity]",
        '{"a": 1e999}',
        '{"a": 1, "a": 2}',
        "9" * 21,
        "[" * 5000 + "]" * 5000,
        "[" * 70 + "]" * 70,
        '"\\ud800"',
        '{"a\\u0000": 1}',
    ],
)
def test_json_from_outside_is_read_strictly(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(text)


def test_sound_json_is_read() -> None:
    assert parse_json('{"a": [1, -2.5e-3, "π", null, true], "b": {"a": 18446744073709551615}}') == {
        "a": [1, -2.5e-3, "π", None, True],
        "b": {"a": 2**64 - 1},
    }


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "folder", "link"])
def test_devices_and_pipes_are_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path = Path(kind)
    with pytest.raises(OSError, match=r"file|directory"):
        read_regular(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_json(path)


@pytest.mark.parametrize("name", ["a", "a/b.png", "./a", "a..b/c", "..."])
def test_names_of_files_inside(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name, "x.json", CheckpointError) == tmp_path / name


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/../../b", "/a", "//a", "a\\b", "C:\\a", "a\0b"])
@pytest.mark.parametrize("error", [CheckpointError, DataError])
def test_names_that_lead_out(tmp_path: Path, name: str, error: type[UserError]) -> None:
    with pytest.raises(error, match=r"x\.json names a file outside the set"):
        inside(tmp_path, name, "x.json", error, "the set")
