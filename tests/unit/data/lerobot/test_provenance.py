"""What a data set's own files say about it."""

from __future__ import annotations

import json
from pathlib import Path

import fakes
import pytest

from pi05.data.lerobot.provenance import camera_sizes, describe_dataset, read_front_matter, read_license


def test_facts_of_a_data_set(tmp_path: Path) -> None:
    fakes.write_dataset(tmp_path / "cubes", episodes=(4, 5))
    facts = describe_dataset(tmp_path / "cubes", "lab/cubes")
    assert (facts["name"], facts["folder"], facts["format"]) == ("lab/cubes", "cubes", "v3.0")
    assert (facts["episodes"], facts["frames"], facts["tasks"], facts["fps"]) == (2, 9, 2, 10)
    assert "action" in facts["features"]
    assert (facts["license"], facts["license_from"], facts["revision"]) == (None, None, None)
    assert facts["camera_sizes"] == {key: [48, 64] for key in fakes.CAMERAS}


def test_sizes_of_cameras_are_read_in_either_order() -> None:
    features = {
        "a": {"dtype": "video", "shape": [480, 640, 3]},
        "b": {"type": "VISUAL", "shape": [3, 96, 128]},
        "c": {"dtype": "float32", "shape": [7]},
        "d": {},
    }
    assert camera_sizes(features) == {"a": [480, 640], "b": [96, 128]}
    assert camera_sizes(None) == {}


@pytest.mark.parametrize(
    ("card", "stated"),
    [
        ("---\nlicense: cc-by-4.0\n---\n# Cubes\n", "cc-by-4.0"),
        ("---\nlicense: other\nlicense_name: lab-terms\n---\n", "lab-terms"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\nlicense:\n- mit\n- apache-2.0\n---\n", "mit, apache-2.0"),
        ("---\nlicense: 3\n---\n", None),
        ("---\nlicense: [\n---\n", None),
        ("---\nlicense: mit\n", None),
        ("The licence is MIT.\n", None),
        ("", None),
    ],
)
def test_the_licence_is_what_the_card_states_and_never_guessed(card: str, stated: str | None, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card)
    assert read_license(tmp_path)[0] == stated
    assert read_license(tmp_path)[1] == (None if stated is None else "README.md")


def test_the_licence_may_stand_in_info(tmp_path: Path) -> None:
    assert read_license(tmp_path, {"license": "mit"}) == ("mit", "meta/info.json")
    (tmp_path / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    assert read_license(tmp_path, {"license": "mit"}) == ("cc0-1.0", "README.md")


def test_a_card_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"\xff\xfe---")
    assert read_front_matter(tmp_path / "README.md") == {}
    assert describe_dataset(tmp_path)["episodes"] is None


def test_the_commit_of_a_downloaded_folder(tmp_path: Path) -> None:
    note = tmp_path / ".cache/huggingface/download/meta/info.json.metadata"
    note.parent.mkdir(parents=True)
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text("{}")
    note.write_text(f"{'0a' * 20}\netag\n1700000000.0\n")
    assert describe_dataset(tmp_path)["revision"] == "0a" * 20
    note.write_text("no commit\n")
    assert describe_dataset(tmp_path)["revision"] is None


BOMB = "---\nlicense: mit\na: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("card", "stated"),
    [
        ("---\nlicense: mit\ndate: 2024-02-30\n---\n", "mit"),
        ("---\nlicense: mit\nsize: 1:99:99\nbig: " + "9" * 5000 + "\n---\n", "mit"),
        ("---\nlicense: mit\nat: 2024-01-01T99:99:99Z\nhex: 0xzz\nfloat: .nanx\n---\n", "mit"),
        ("---\nlicense: 2024-02-30\n---\n", None),
        ("---\nlicense: ~\n---\n", None),
        ("---\nlicense: null\n---\n", None),
        ("---\nlicense: true\n---\n", None),
        ("---\nlicense: {mit: 1}\n---\n", None),
        ("---\nlicense: [[mit], {a: b}, apache-2.0, 7]\n---\n", "apache-2.0"),
        ("---\nlicense: mit\nx: " + "[" * 5000 + "\n---\n", None),
        ("---\nlicense: mit\nx: " + "[" * 5000 + "]" * 5000 + "\n---\n", None),
        (BOMB + "---\n", "mit"),
        (BOMB + "license_name: *i\n---\n", "mit"),
        (BOMB.replace("license: mit", "") + "license: *i\n---\n", None),
        ("---\nlicense: &a [*a]\n---\n", None),
        ("---\n? [a]\n: 1\nlicense: mit\n---\n", None),
        ("---\nlicense: !!python/object/apply:os.getcwd []\n---\n", None),
        ("---\nlicense: " + "x" * 300 + "\n---\n", None),
        ("---\nlicense: mit\n" + "x: y\n" * 20_000 + "---\n", None),
    ],
)
def test_no_front_matter_stops_a_run(card: str, stated: str | None, tmp_path: Path) -> None:
    """A date that is none ended training once: what decides nothing is passed over, in little time and memory."""
    (tmp_path / "README.md").write_text(card)
    assert describe_dataset(tmp_path)["license"] == stated


def test_a_card_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "README.md").symlink_to("/dev/zero")
    assert read_front_matter(tmp_path / "README.md") == {}


@pytest.mark.parametrize(
    "features",
    [
        {"a": "text", "b": 5, "c": None, "d": [1], "e": {"dtype": "image", "shape": ["48", 64, 3]}},
        {"a": {"dtype": "image", "shape": [48.5, 64, 3]}, "b": {"dtype": ["image"], "shape": [48, 64, 3]}},
        {"a": {"dtype": "video", "shape": {"height": 48}}, "b": {"type": "VISUAL", "shape": [0, 64, 3]}},
        ["observation.image"],
        "features",
        7,
    ],
)
def test_features_of_any_kind_have_no_size(features: object) -> None:
    assert camera_sizes(features) == {}


@pytest.mark.parametrize("value", [[], {}, "2024-02-30", -1, 1e400, True, None, [1, 2]])
def test_numbers_that_are_none_are_not_told(tmp_path: Path, value: object) -> None:
    names = ("codebase_version", "robot_type", "fps", "total_episodes", "total_frames", "total_tasks")
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text(json.dumps(dict.fromkeys(names, value)))
    facts = describe_dataset(tmp_path)
    texts = {facts["format"], facts["robot"]} if not isinstance(value, str) else set()
    assert {facts[name] for name in ("fps", "episodes", "frames", "tasks")} | texts == {None}
