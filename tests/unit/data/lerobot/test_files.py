"""Text of a data set in every encoding that editors leave behind: read as LeRobot reads it, or refused by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from broken import refusal
from fakes import FakeDataset

from pi05.data.lerobot.reader import Dataset


def rewrite(path: Path, change: Callable[[str], bytes]) -> None:
    path.write_bytes(change(path.read_text(encoding="utf-8")))


def write_tasks(fake: FakeDataset, *tasks: str, encoding: str = "utf-8") -> Path:
    """Give the set these instructions, in the order of the numbers, and the episodes no list of their own."""
    path = fake.root / "meta/tasks.jsonl"
    rows = [json.dumps({"task_index": k, "task": task}, ensure_ascii=False) for k, task in enumerate(tasks)]
    path.write_bytes(("\n".join(rows) + "\n").encode(encoding))
    episodes = fake.root / "meta/episodes.jsonl"
    lines = [json.loads(line) for line in episodes.read_text().split("\n") if line]
    for line in lines:
        line["tasks"] = []
    episodes.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("name", ["info.json", "tasks.jsonl", "episodes.jsonl"])
def test_a_byte_order_mark_is_no_text(fake: FakeDataset, name: str) -> None:
    rewrite(fake.root / "meta" / name, lambda text: text.encode("utf-8-sig"))
    data = Dataset(fake.root)
    assert data.task(0) == fake.task_of_frame[0]
    assert data.episodes[1].length == 9


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\u00a0"])
def test_signs_that_only_look_like_line_ends_stay_in_the_task(fake: FakeDataset, sign: str) -> None:
    write_tasks(fake, f"put the red{sign}block", "两个")
    assert Dataset(fake.root).tasks == [f"put the red{sign}block", "两个"]


def test_windows_line_ends(fake: FakeDataset) -> None:
    for name in ("tasks.jsonl", "episodes.jsonl"):
        rewrite(fake.root / "meta" / name, lambda text: text.replace("\n", "\r\n").encode())
    assert Dataset(fake.root).task(0) == fake.task_of_frame[0]


@pytest.mark.parametrize(("encoding", "task"), [("gbk", "抓取红色方块"), ("latin-1", "würfel"), ("utf-16", "cube")])
def test_another_encoding_is_refused_with_line_and_byte(fake: FakeDataset, encoding: str, task: str) -> None:
    path = write_tasks(fake, "cube", task, encoding=encoding)
    line = "line 1" if encoding == "utf-16" else "line 2"
    refusal(fake.root, str(path), "not text in UTF-8", line, "byte 0x", "save the file as UTF-8")


def test_another_encoding_in_the_description(fake: FakeDataset) -> None:
    path = fake.root / "meta/info.json"
    rewrite(path, lambda text: text.replace('"fake"', '"机器人"').encode("gbk"))
    refusal(fake.root, str(path), "byte 0x", "save the file as UTF-8")


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"task_index": ' + "9" * 5000 + "}", '{"task_index": NaN}', "7", "[1]"]
)
@pytest.mark.parametrize("name", ["tasks.jsonl", "episodes.jsonl"])
def test_lines_that_json_cannot_mean(fake: FakeDataset, line: str, name: str) -> None:
    with (fake.root / "meta" / name).open("a") as file:
        file.write(line + "\n")
    refusal(fake.root, name, "line ")


@pytest.mark.parametrize("name", ["info.json", "tasks.jsonl", "episodes.jsonl"])
def test_a_device_is_no_file(fake: FakeDataset, name: str) -> None:
    path = fake.root / "meta" / name
    path.unlink()
    path.symlink_to("/dev/zero")
    refusal(fake.root, name, "no such file")


def test_a_list_without_end_is_not_read(fake: FakeDataset) -> None:
    path = fake.root / "meta/episodes.jsonl"
    os.truncate(path, 2**40)  # of holes: takes no room on the disk
    refusal(fake.root, "episodes.jsonl", "at most 134 MB make sense")
