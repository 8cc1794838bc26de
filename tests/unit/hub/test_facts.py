"""What is known of a run, for its card."""

from __future__ import annotations

from pathlib import Path

from pi05.hub.facts import describe_base, describe_evaluation, describe_sessions, hub_name
from pi05.train.config import TINY_BASE

SHA = "9f" * 32


class TestBase:
    def test_random_weights(self) -> None:
        assert describe_base({"source": "drawn from the seed", "seed": 1}, {"base": None}, None) is None

    def test_a_folders_own_name_proves_nothing(self, tmp_path: Path) -> None:
        receipt = {"source": str(tmp_path / "lerobot/pi05_base"), "layout": "LeRobot", "sha256": SHA}
        found = describe_base(receipt, {}, None)
        assert found is not None
        assert (found["name"], found["folder"], found["sha256"]) == (None, "pi05_base", SHA)
        stated = describe_base(receipt, {}, "lerobot/pi05_base")
        assert stated is not None
        assert (stated["name"], stated["stated"]) == ("lerobot/pi05_base", True)

    def test_the_clients_cache_tells_name_and_commit(self, tmp_path: Path) -> None:
        snapshot = tmp_path / "models--lerobot--pi05_base/snapshots" / ("0a" * 20)
        snapshot.mkdir(parents=True)
        (snapshot / "README.md").write_text("---\nlicense: gemma\n---\n")
        found = describe_base({"source": str(snapshot), "layout": "LeRobot"}, {}, None)
        assert found is not None
        assert (found["name"], found["revision"], found["license"]) == ("lerobot/pi05_base", "0a" * 20, "gemma")

    def test_the_packaged_base(self) -> None:
        found = describe_base({"source": str(TINY_BASE), "layout": "pi05"}, {}, None)
        assert found is not None
        assert found["packaged"]


def test_an_evaluation_of_another_step_or_policy_is_not_this_one() -> None:
    found = {
        "success": {"successes": 1, "trials": 2, "rate": 0.5, "wilson_low": 0.1, "wilson_high": 0.9},
        "environment": {"name": "tabletop", "family": "demo"},
        "policy": {"checkpoint": "/x/run/checkpoints/000010", "step": 10},
        "date": "2026-11-22T12:00:00+00:00",
    }
    assert describe_evaluation(found, 10)["this"]
    assert not describe_evaluation(found, 20)["this"]
    base = {**found, "policy": {"checkpoint": "/x/assets/pi05-tiny", "step": 10}}
    assert (describe_evaluation(base, 10)["this"], describe_evaluation(base, 10)["policy"]) == (False, "pi05-tiny")
    assert describe_evaluation({"success": {}}, 1)["date"] is None


def test_sessions_after_the_published_step_are_left_out() -> None:
    machine = {"gpu": "Some GPU", "processor": "Some CPU", "cpu_cores": 8, "torch": "2"}
    first = {"first_step": 0, "last_step": 5, "device": "cpu", "machine": machine, "started": "x", "ended": None}
    second = {**first, "first_step": 5, "device": "cuda:0"}
    assert [s["hardware"] for s in describe_sessions([first, second], 5)] == ["Some CPU"]
    assert [s["hardware"] for s in describe_sessions([first, second], 6)] == ["Some CPU", "Some GPU"]
    assert describe_sessions([first], 5)[0]["seconds"] is None


def test_hub_names() -> None:
    assert hub_name("lab/cubes") == "lab/cubes"
    assert [hub_name(name) for name in (None, "cubes", "./lab/cubes", "/data/cubes", "a b/c")] == [None] * 5
