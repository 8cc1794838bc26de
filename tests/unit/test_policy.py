from __future__ import annotations

import inspect
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from fake_policies import make_policy, save_policy

from pi05.checkpoint.locate import locate
from pi05.checkpoint.peft.adapter import write_adapter
from pi05.checkpoint.run_folder import point
from pi05.data.robot.recent_looks import RecentLooks
from pi05.data.statistics import DimStats
from pi05.errors import CheckpointError, DataError
from pi05.model.lora import LoraSpec, add_lora
from pi05.policy import Policy, open_policy
from pi05.train.config import TINY_BASE

STATE = "observation.state"
SCENE, WRIST = fakes.CAMERAS
FLAGGED = "state dimension 1 (y_m) is 17; in training it was -0.2 to 0.2, so it is 16.8 outside"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


@pytest.fixture
def policy(tokenizer: Path) -> Policy:
    return make_policy(tokenizer)


def observation(seed: int = 0, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        SCENE: rng.integers(0, 256, (48, 48, 3), np.uint8),
        WRIST: rng.integers(0, 256, (48, 48, 3), np.uint8),
        STATE: rng.uniform(-0.1, 0.1, 3).astype(np.float32),
        "task": fakes.TASKS[seed % 2],
        **changes,
    }


def test_one_observation_gives_a_chunk_in_robot_units(policy: Policy) -> None:
    answer = policy.infer(observation(), generator=torch.Generator().manual_seed(1))
    assert answer["actions"].shape == (10, 3)
    assert answer["actions"].dtype == np.float32
    assert answer["timing"]["total_ms"] > 0
    assert (policy.fps, policy.noise_shape, policy.n_action_steps) == (10.0, (10, 32), 5)


def test_a_seed_fixes_the_chunk(policy: Policy) -> None:
    first, again, other = (
        policy.infer(observation(), generator=torch.Generator().manual_seed(seed))["actions"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other, atol=1e-3)


def test_a_batch_equals_its_members(policy: Policy) -> None:
    """With prompts of different lengths, so that padding is in play."""
    observations = [observation(seed) for seed in range(4)]
    observations[2]["task"] += " and then move on"
    noise = torch.randn((4, 10, 32), generator=torch.Generator().manual_seed(0))
    together = policy.infer_batch(observations, noise=noise)
    for i, chunk in enumerate(together):
        alone = policy.infer_batch([observations[i]], noise=noise[i : i + 1])[0]
        np.testing.assert_allclose(chunk, alone, atol=1e-5)


@pytest.mark.parametrize("changed", [SCENE, WRIST, STATE, "task"])
def test_every_input_counts(policy: Policy, changed: str) -> None:
    noise = torch.zeros((1, 10, 32))
    before = policy.infer_batch([observation()], noise=noise)[0]
    after = policy.infer_batch([observation(**{changed: observation(1)[changed]})], noise=noise)[0]
    assert np.abs(after - before).max() > 1e-6


@pytest.mark.parametrize("missing", [SCENE, WRIST, STATE, "task"])
def test_a_missing_input_is_named(policy: Policy, missing: str) -> None:
    incomplete = observation()
    del incomplete[missing]
    with pytest.raises(DataError, match=missing):
        policy.infer(incomplete)


@pytest.mark.parametrize("state", [[0.0, float("nan"), 0.0], [[0.0, 0.0, 0.0]] * 2])
def test_a_state_that_is_none_is_not_answered(policy: Policy, state: Any) -> None:
    with pytest.raises(DataError, match="the state"):
        policy.infer(observation(**{STATE: state}))


def test_a_batch_of_one_gives_the_same_answer(policy: Policy) -> None:
    plain = observation()
    noise = torch.zeros(1, *policy.noise_shape)
    boxed = {**plain, STATE: plain[STATE][None]}
    np.testing.assert_array_equal(policy.infer_batch([plain], noise)[0], policy.infer_batch([boxed], noise)[0])


def test_actions_that_are_not_finite_are_not_answered(policy: Policy) -> None:
    noise = torch.zeros(1, *policy.noise_shape)
    noise[0, 2, 1] = float("inf")
    with pytest.raises(DataError, match=r"(?s)not finite.*in step \d+, dimension \d"):
        policy.infer_batch([observation()], noise)


def test_the_state_may_be_missing_where_nothing_reads_it(tokenizer: Path) -> None:
    incomplete = observation()
    del incomplete[STATE]
    blind = make_policy(tokenizer, prompt_format="none")
    assert blind.infer(incomplete)["actions"].shape == (10, 3)
    relative = make_policy(tokenizer, prompt_format="none", relative_mask=(True, True, False))
    with pytest.raises(DataError, match="no state"):
        relative.infer(incomplete)


def test_a_state_far_outside_the_training_range_is_flagged_once(
    policy: Policy, caplog: pytest.LogCaptureFixture
) -> None:
    inside = np.array([0.23, -0.2, 1.05], np.float32)
    degrees = np.array([0.0, 17.0, 1.0], np.float32)
    with caplog.at_level(logging.WARNING):
        policy.infer(observation(**{STATE: inside}))
        assert policy.flagged == []
        policy.infer(observation(**{STATE: degrees}))
        policy.infer(observation(**{STATE: degrees + 2}))
    assert policy.flagged[0] == FLAGGED
    assert [record.message for record in caplog.records if "dimension 1" in record.message] == [
        policy.flagged[0] + ": other units, another calibration, another robot?"
    ]
    assert len(policy.flagged) == 3  # 0 and 2 were flagged by the third call


def test_a_state_where_no_demonstration_was_is_no_matter_of_units(
    policy: Policy, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        policy.infer(observation(**{STATE: np.array([0.7, 0.0, 0.5], np.float32)}))
    assert [record.message for record in caplog.records if "dimension" in record.message] == [
        "state dimension 0 (x_m) is 0.7; in training it was -0.2 to 0.2, so it is 0.5 outside: no demonstration was "
        "there, and the policy has to guess"
    ]


def test_a_strict_policy_refuses_a_state_outside_the_training_range(policy: Policy) -> None:
    policy.strict = True
    degrees = np.array([0.0, 17.0, -30.0], np.float32)
    with pytest.raises(DataError, match=r"(?s)y_m\) is 17;.*16.8 outside; state dimension 2 \(opening\).*30 outside"):
        policy.infer(observation(**{STATE: degrees}))
    inside = np.array([0.23, -0.2, 1.05], np.float32)
    assert policy.infer(observation(**{STATE: inside}))["actions"].shape == (10, 3)
    assert policy.flagged == []


def table(frame: int) -> np.ndarray:
    """Return a wooden table under a lamp at its left, with a dark robot and a block that moves."""
    down, across = np.mgrid[0:48, 0:48] / 48
    picture = (200 - 110 * across - 40 * down)[..., None] * (1.0, 0.8, 0.55)
    picture[27:45, 33:45] = 30
    picture[frame % 36 : frame % 36 + 9, 7 * frame % 36 : 7 * frame % 36 + 9] = (60, 90, 190)
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture
def filmed(tokenizer: Path) -> Policy:
    """Return a policy that knows what its camera of the scene showed."""
    plain = make_policy(tokenizer)
    episodes = [list(range(e, e + 40, 4)) for e in range(4)]
    grey = np.full((48, 48, 3), 128, np.uint8)
    return Policy(plain.model, plain.processor.having_seen(lambda frame: [table(frame), grey], episodes))


def test_a_picture_that_stands_otherwise_than_in_training_is_told_once(
    filmed: Policy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert set(filmed.processor.camera_views) == {"scene", "left_wrist"}
    loaded = Policy.load(save_policy(tmp_path / "policy", filmed))
    turned = f"the picture of camera {SCENE} comes upside down, compared with those of the training"
    exchanged = f"the picture of camera {SCENE} comes with red and blue exchanged, compared with those of the training"
    with caplog.at_level(logging.WARNING):
        for frame in (2, 30):
            assert loaded.prepare(observation(**{SCENE: table(frame)[::-1, ::-1]})).warnings == (turned,)
        other_robot = RecentLooks()
        assert loaded.prepare(observation(**{SCENE: table(2)}), other_robot).warnings == ()
        assert loaded.prepare(observation(**{SCENE: table(9)[..., ::-1]}), RecentLooks()).warnings == (exchanged,)
        lone = observation(**{SCENE: table(4)[::-1, ::-1]})
        assert loaded.prepare(lone, other_robot).warnings == ()  # one of two
        assert loaded.prepare(lone, other_robot).warnings == ()  # the same look again
        another = observation(**{SCENE: table(17)[::-1, ::-1]})
        assert loaded.prepare(another, other_robot).warnings == (turned,)  # two of three
    told = [record.message for record in caplog.records if "compared with" in record.message]
    assert [text.partition(":")[0] for text in told] == loaded.flagged == [turned, exchanged]
    assert "BGR" in told[0]


def test_cameras_that_have_changed_places_are_told_once_each(
    tokenizer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = make_policy(tokenizer)
    episodes = [list(range(e, e + 40, 4)) for e in range(4)]

    def look(frame: int) -> list[np.ndarray]:
        return [table(frame), np.ascontiguousarray(255 - table(frame)[::-1])]

    seen = Policy(plain.model, plain.processor.having_seen(look, episodes))
    loaded = Policy.load(save_policy(tmp_path / "policy", seen))
    shows = "camera {} shows what was seen in training by camera {}"
    wanted = (shows.format(SCENE, WRIST), shows.format(WRIST, SCENE))
    with caplog.at_level(logging.WARNING):
        for frame in (2, 30):
            sound = dict(zip((SCENE, WRIST), look(frame), strict=True))
            changed = dict(zip((WRIST, SCENE), look(frame), strict=True))
            assert loaded.prepare(observation(**sound), RecentLooks()).warnings == ()
            assert loaded.prepare(observation(**changed), RecentLooks()).warnings == wanted
    assert loaded.flagged == list(wanted)
    told = [record.message for record in caplog.records if "seen in training by" in record.message]
    assert [text.partition(": ")[0] for text in told] == list(wanted)
    assert all("changed places" in text for text in told)
    loaded.strict = True
    with pytest.raises(DataError, match=r"(?s)seen in training by.*the name of its camera"):
        loaded.prepare(observation(**changed), RecentLooks())


def test_a_strict_policy_refuses_a_picture_in_another_channel_order(filmed: Policy) -> None:
    filmed.strict = True
    with pytest.raises(DataError, match=r"(?s)channel order.*red and blue exchanged.*not OpenCV's BGR"):
        filmed.infer(observation(**{SCENE: table(5)[..., ::-1]}))


def test_a_right_camera_that_a_strict_policy_has_refused_is_not_refused_for_ever(filmed: Policy) -> None:
    """Its first look is taken for a turned one, the robot stands still and asks on; then its arm is moved."""
    filmed.strict = True
    taken, looks = table(2)[::-1, ::-1], RecentLooks()
    noise = np.random.default_rng(0)
    for _ in range(40):
        seen = np.clip(taken + noise.integers(-8, 9, taken.shape), 0, 255).astype(np.uint8)
        with pytest.raises(DataError, match=r"(?s)upside down.*move the arm a little.*without --strict"):
            filmed.prepare(observation(**{SCENE: seen}), looks)
    assert filmed.prepare(observation(**{SCENE: table(9)}), looks).warnings == ()
    assert filmed.prepare(observation(**{SCENE: table(20)}), looks).warnings == ()
    assert filmed.prepare(observation(**{SCENE: table(31)[::-1, ::-1]}), looks).warnings == ()  # two of four
    with pytest.raises(DataError, match="upside down"):  # and of a turned camera the first look is refused
        filmed.prepare(observation(**{SCENE: table(9)[::-1, ::-1]}), RecentLooks())


def test_a_picture_as_in_training_is_answered_by_a_strict_policy(filmed: Policy) -> None:
    filmed.strict = True
    for frame in range(40, 60, 5):
        assert filmed.prepare(observation(**{SCENE: table(frame)})).warnings == ()
    assert filmed.flagged == []


def test_an_instruction_of_other_words_than_in_training_is_told(
    tokenizer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = make_policy(tokenizer)
    assert plain.prepare(observation(task="dance")).warnings == (), "its training is not known"
    trained = Policy(plain.model, plain.processor.having_heard([*fakes.TASKS, fakes.TASKS[0]]))
    loaded = Policy.load(save_policy(tmp_path / "policy", trained))
    assert loaded.processor.instructions == trained.processor.instructions == tuple(sorted(fakes.TASKS))
    words = "the instruction is 'dance', not one of the training's 2"
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert loaded.prepare(observation()).warnings == ()
            spelled = " " + observation()["task"].replace(" ", "_") + "\n"
            assert loaded.prepare(observation(task=spelled)).warnings == (), "prompts are the same"
            (told,) = loaded.prepare(observation(task="dance")).warnings
            assert told.startswith(words)
    assert loaded.flagged == [told]
    assert [record.message.partition(":")[0] for record in caplog.records if "dance" in record.message] == [words]
    loaded.strict = True
    assert loaded.prepare(observation()).warnings == ()
    with pytest.raises(DataError, match=r"(?s)not trained on this instruction.*'dance'"):
        loaded.prepare(observation(task="dance"))
    assert loaded.processor.having_heard(["walk"]) is loaded.processor, "a resumed run heard them already"


def test_foreign_statistics_flag_by_quantiles_or_not_at_all(tokenizer: Path) -> None:
    low, high = np.array([-0.2, -0.2, 0.0]), np.array([0.2, 0.2, 1.0])
    degrees = observation(**{STATE: np.array([0.0, 17.0, 1.0], np.float32)})
    quantiles = make_policy(tokenizer, state_stats=DimStats(q01=low, q99=high, count=0))
    quantiles.infer(degrees)
    assert quantiles.flagged == [FLAGGED]
    modes = {"STATE": "MEAN_STD", "ACTION": "QUANTILES"}
    unknown = make_policy(tokenizer, state_stats=DimStats(mean=low, std=high + 1, count=0), normalization=modes)
    unknown.infer(degrees)
    assert unknown.flagged == []


def test_cameras_may_have_other_names_on_the_robot(policy: Policy, tmp_path: Path) -> None:
    folder = save_policy(tmp_path / "checkpoint", policy)
    renamed = Policy.load(folder, rename_map={"front": "scene"})
    assert renamed.processor.slots.keys == ("observation.images.front", WRIST)
    with pytest.raises(CheckpointError, match="another prompt format"):
        Policy.load(folder, prompt_format="none")
    with pytest.raises(CheckpointError, match="horizon cannot be told"):
        Policy.load(folder, horizon=3)


def test_a_checkpoint_folder_holds_all_it_needs(policy: Policy, tmp_path: Path) -> None:
    folder = save_policy(tmp_path / "checkpoint", policy, n_action_steps=3, rtc_max_delay=4)
    moved = Path(shutil.move(folder, tmp_path / "elsewhere"))
    loaded = Policy.load(moved)
    noise = torch.randn((1, 10, 32), generator=torch.Generator().manual_seed(0))
    expected = policy.infer_batch([observation()], noise=noise)[0]
    policy.only_infer()  # as `load` does: matrices are laid out otherwise, which changes the last bits
    np.testing.assert_allclose(loaded.infer_batch([observation()], noise=noise)[0], expected, rtol=0, atol=1e-6)
    expected = policy.infer_batch([observation()], noise=noise)[0]
    np.testing.assert_array_equal(loaded.infer_batch([observation()], noise=noise)[0], expected)
    assert loaded.n_action_steps == 3
    assert (policy.max_delay, loaded.max_delay) == (0, 4)
    assert "delays   trained for 0 to 3 control steps" in repr(loaded)
    assert "delays" not in repr(policy)
    assert loaded.provenance["step"] == 7
    assert loaded.provenance["base"]["sha256"] == "0" * 64
    assert loaded.provenance["checkpoint"] == str(moved)


def test_a_run_folder_means_its_last_checkpoint(tokenizer: Path, tmp_path: Path) -> None:
    for step in (1, 2):
        save_policy(tmp_path / "run" / "checkpoints" / f"00000{step}", make_policy(tokenizer, seed=step), step=step)
    point(tmp_path / "run", "last", tmp_path / "run" / "checkpoints" / "000002")
    point(tmp_path / "run", "best", tmp_path / "run" / "checkpoints" / "000001")
    assert Policy.load(tmp_path / "run").provenance["step"] == 2
    assert Policy.load(tmp_path / "run" / "checkpoints" / "best").provenance["step"] == 1


def test_what_was_located_is_what_is_read(tokenizer: Path, tmp_path: Path) -> None:
    """`last` moves on after the search, as it does beside a run: nothing of the newer checkpoint gets in."""
    run, policies = tmp_path / "run", [make_policy(tokenizer, seed=step) for step in (1, 2)]
    for step, policy in enumerate(policies, start=1):
        save_policy(run / "checkpoints" / f"00000{step}", policy, step=step)
    point(run, "last", run / "checkpoints" / "000001")
    location = locate(run)
    point(run, "last", run / "checkpoints" / "000002")
    opened = open_policy(location)
    assert opened.policy.provenance["step"] == 1
    assert opened.policy.provenance["path"] == str(run)
    assert torch.equal(opened.policy.model.embedding.weight, policies[0].model.embedding.weight)


@pytest.fixture
def searches() -> Iterator[list[Path]]:
    """The paths that the file system was searched for, as the interpreter's own profiler sees the calls."""
    found: list[Path] = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is inspect.unwrap(locate).__code__:
            found.append(Path(frame.f_locals["path"]))

    sys.setprofile(watch)
    yield found
    sys.setprofile(None)


def test_a_load_searches_each_folder_once(tokenizer: Path, tmp_path: Path, searches: list[Path]) -> None:
    policy = make_policy(tokenizer)
    base = save_policy(tmp_path / "base", policy)
    Policy.load(base)
    assert searches == [base]
    searches.clear()
    adapted = make_policy(tokenizer)
    add_lora(adapted.model, {"expert.layers.0.attention.query": LoraSpec(rank=2, alpha=4)})
    adapter = save_policy(tmp_path / "adapter", policy, base={"path": str(base)}, adapter=True)
    (adapter / "model.safetensors").unlink()
    write_adapter(adapter, adapted.model, base=str(base))
    Policy.load(adapter)
    assert searches == [adapter, base]


def test_a_folder_that_is_no_policy_is_refused(policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        Policy.load(tmp_path / "nothing")
    bare = save_policy(tmp_path / "bare", policy)
    config = (bare / "config.json").read_text()
    (bare / "config.json").write_text(config.replace('"processor"', '"something"'))
    with pytest.raises(CheckpointError, match="no processor"):
        Policy.load(bare)
    (bare / "config.json").write_text(config)
    (bare / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="no tokenizer"):
        Policy.load(bare)


def test_more_actions_than_predicted_cannot_be_executed(policy: Policy) -> None:
    with pytest.raises(CheckpointError, match="more actions"):
        Policy(policy.model, policy.processor, n_action_steps=11)


def test_a_policy_prints_what_it_is() -> None:
    lines = repr(Policy.load(TINY_BASE)).splitlines()
    assert lines[0] == f"Policy {TINY_BASE} (pi05), step 8,000, method not told, on cpu"
    assert lines[1:4] == [
        "  observation.images.scene → scene",
        "  observation.images.wrist → left_wrist",
        "  (empty, masked)          → right_wrist",
    ]
    assert lines[-3:] == [
        "  state    x_m, y_m, opening",
        "  actions  x_m, y_m, opening",
        "  executed 5 actions of a chunk",
    ]


def test_a_base_for_full_weights_is_refused() -> None:
    """It would be ignored, and the weights would be others than the caller thinks."""
    with pytest.raises(CheckpointError, match="holds full weights") as refusal:
        Policy.load(TINY_BASE, base=TINY_BASE)
    assert "leave the base out" in refusal.value.remedy
