from __future__ import annotations

import asyncio
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import fakes
import numpy as np
import pytest
import torch
from fake_policies import make_policy, save_policy
from serving import config, opened, session

from pi05.data.robot.recent_looks import RecentLooks
from pi05.data.robot.stored_observations import OBSERVATIONS, pack_observations, read_observations
from pi05.errors import CheckpointError, DataError, ServeError
from pi05.model.inference import Precision as NetworkPrecision
from pi05.model.quantize import QuantizedWeight
from pi05.policy import Policy
from pi05.policy_choice import ChosenPolicy
from pi05.serve import selftest as module
from pi05.serve.arrays import pack
from pi05.serve.batching import Answered, Question
from pi05.serve.config import Precision, ServeConfig
from pi05.serve.engine import Engine, example_observation
from pi05.serve.rtc import next_chunks
from pi05.serve.selftest import selftest, stored_observations
from pi05.serve.server import PolicyServer
from pi05.serve.underway import Underway
from pi05.types import STATE, TASK

SCENE, WRIST = fakes.CAMERAS


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    tokenizer = fakes.write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")
    sizes = {"scene": (30, 40)}
    return Engine(make_policy(tokenizer, camera_sizes=sizes), num_steps=3, checkpoint="c" * 64)


def question(engine: Engine, seed: int = 0, **changes: Any) -> Question:
    return Question(observation={**example_observation(engine.policy, seed), **changes}, seed=seed)


def test_a_seed_gives_the_policys_own_chunk_whoever_else_asks(engine: Engine) -> None:
    questions = [question(engine, seed) for seed in range(3)]
    for many in (questions[:1], questions):
        for one, answer in zip(many, engine.answer_all(many), strict=True):
            assert isinstance(answer, Answered)
            generator = torch.Generator().manual_seed(one.seed or 0)
            want = engine.policy.infer(dict(one.observation), num_steps=3, generator=generator)["actions"]
            assert answer.batch == len(many)
            if len(many) == 1:
                assert answer.actions.tobytes() == want.tobytes()
            np.testing.assert_allclose(answer.actions, want, atol=1e-5)  # of a batch: up to rounding


def knowing(engine: Engine) -> tuple[dict[int, dict[str, Any]], Engine]:
    """Return four observations under a lamp, and an engine that knows how its cameras stood under it."""
    shown = {seed: example_observation(engine.policy, seed) for seed in range(4)}
    lamp = np.add.outer(np.linspace(0, 150, 30), np.linspace(0, 90, 40))[..., None] * (1.0, 0.8, 0.5)
    upright = {seed: {**one, SCENE: (lamp + seed).astype(np.uint8)} for seed, one in shown.items()}
    encoded = {seed: engine.policy.processor.encode(one).images for seed, one in upright.items()}
    processor = engine.policy.processor.having_seen(lambda frame: encoded[frame % 4], [list(range(10))] * 4)
    return upright, Engine(Policy(engine.policy.model, processor), num_steps=1)


def test_every_robot_s_pictures_are_judged_by_its_own(engine: Engine) -> None:
    """One that comes turned among three that do not is told, which it were not in a count of them all."""
    upright, ours = knowing(engine)
    robots = [RecentLooks() for _ in upright]
    for _ in range(3):
        asked = [dict(one) for one in upright.values()]
        asked[2][SCENE] = asked[2][SCENE][::-1, ::-1]
        questions = [Question(observation=one, looks=looks) for one, looks in zip(asked, robots, strict=True)]
        answers = ours.answer_all(questions)
        told = [answer.warnings for answer in answers if isinstance(answer, Answered)]
        assert [bool(each) for each in told] == [False, False, True, False]
        assert "upside down" in told[2][0]


def test_a_strict_policy_accepts_what_is_made_up_for_it(engine: Engine) -> None:
    """Else it would refuse its own warm-up, and the server would not start."""
    processor = engine.policy.processor.having_heard(["fold the shirt", "pick it up"])
    policy = Policy(engine.policy.model, processor)
    policy.strict = True
    assert policy.prepare(example_observation(policy)).warnings == ()
    Engine(policy, num_steps=1).warm_up([1, 2])
    assert policy.flagged == []


@pytest.mark.parametrize("way", ["session_id", "examples"])
def test_robots_that_share_a_connection_are_judged_apart(engine: Engine, way: str) -> None:
    """A gateway's, in turns; or StarVLA's examples in one message. The second comes upside down, all the time."""
    upright, ours = knowing(engine)
    server = PolicyServer(config(max_batch=2), ours.contract, ours.answer_all)
    seen = {name: upright[0][name] for name in (*engine.policy.processor.slots.keys, STATE, TASK)}
    both = [seen, {**seen, SCENE: seen[SCENE][::-1, ::-1]}]

    async def run() -> tuple[list[int], Counter[str]]:
        server.batcher.start()
        one, told = session(), [0, 0]
        try:
            for _ in range(20):
                before = server.metrics.warnings
                if way == "session_id":
                    for i, robot in enumerate(both):
                        answer = opened(await server.answer(one, pack({**robot, "session_id": "ab"[i]})))
                        told[i] += any("upside down" in text for text in answer.get("warnings", []))
                    continue
                pictures = [[robot[key] for key in engine.policy.processor.slots.keys] for robot in both]
                examples = [{"image": each, "lang": "go", "state": seen[STATE][None]} for each in pictures]
                await server.answer(one, pack({"examples": examples}))
                told[1] += server.metrics.warnings - before
        finally:
            await server.batcher.close(10)
            server.close()
        return told, server.metrics.refused

    assert asyncio.run(run()) == ([0, 20], Counter())


@pytest.mark.parametrize("chunking", ["guided", "trained"])
@pytest.mark.parametrize("relative", [None, (True, True, False)])
def test_chunks_are_continued_as_in_an_evaluation(engine: Engine, chunking: Any, relative: Any) -> None:
    """Alone to the bit; in a batch of robots with other chunks, other delays and none, up to rounding."""
    one = engine.policy
    policy = Policy(one.model, replace(one.processor, relative_mask=relative), max_delay=5)
    ours = Engine(policy, num_steps=3, chunking=chunking)
    rng = np.random.default_rng(0)
    underway = [
        Underway(actions=rng.uniform(-0.2, 0.2, (left, 3)).astype(np.float32), delay=delay)
        for left, delay in ((7, 4), (3, 1))
    ]
    questions = [replace(question(ours, seed), underway=each) for seed, each in enumerate([*underway, None])]
    alone = []
    for asked in questions:
        generator = torch.Generator().manual_seed(asked.seed or 0)
        seen = [dict(asked.observation)]
        want = next_chunks(policy, seen, [asked.underway], mode=chunking, num_steps=3, generator=generator)[0]
        (answer,) = ours.answer_all([asked])
        assert isinstance(answer, Answered)
        assert answer.actions.tobytes() == want.tobytes()
        alone.append(want)
    for want, answer in zip(alone, ours.answer_all(questions), strict=True):
        assert isinstance(answer, Answered)
        np.testing.assert_allclose(answer.actions, want, atol=1e-5)
    plain = engine.answer_all([question(engine, 0)])[0] if relative is None else None
    assert plain is None or (isinstance(plain, Answered) and np.abs(plain.actions - alone[0]).max() > 1e-3)
    if chunking == "trained":
        np.testing.assert_allclose(alone[0][:4], underway[0].actions[:4], atol=1e-6)


def test_one_of_a_continued_batch_is_at_fault_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Engine(engine.policy, num_steps=3, chunking="guided")
    draw = ours._noise
    monkeypatch.setattr(ours, "_noise", lambda seed: draw(seed) * (float("inf") if seed == 1 else 1))
    left = np.zeros((6, 3), np.float32)
    asked = [replace(question(ours, seed), underway=Underway(actions=left, delay=2)) for seed in range(3)]
    answers = ours.answer_all(asked)
    assert [type(answer) for answer in answers] == [Answered, DataError, Answered]


def test_the_contract_tells_how_chunks_are_continued(engine: Engine) -> None:
    assert (engine.contract.chunking, engine.contract.max_delay) == ("synchronous", None)
    guided = Engine(engine.policy, chunking="guided")
    assert (guided.contract.chunking, guided.contract.max_delay, guided.contract.warm_s) == ("guided", None, None)
    assert guided.warm_up([1]) == guided.contract.warm_s
    with pytest.raises(CheckpointError, match="was not trained"):
        Engine(engine.policy, chunking="trained")


def test_one_wrong_observation_leaves_the_others_alone(engine: Engine) -> None:
    nan = question(engine, 1, **{STATE: np.array([0, np.nan, 0], np.float32)})
    answers = engine.answer_all([question(engine), nan, question(engine, 2)])
    assert [type(answer) for answer in answers] == [Answered, DataError, Answered]
    assert "y_m" in str(answers[1])
    assert all(isinstance(answer, DataError) for answer in engine.answer_all([nan]))


def test_actions_that_are_not_finite_are_the_fault_of_one(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = engine._noise

    def noise(seed: int | None) -> torch.Tensor:
        return draw(seed) * (float("inf") if seed == 1 else 1)

    monkeypatch.setattr(engine, "_noise", noise)
    answers = engine.answer_all([question(engine, seed) for seed in range(3)])
    assert [type(answer) for answer in answers] == [Answered, DataError, Answered]
    assert "not finite" in str(answers[1])


def test_the_contract_tells_what_the_policy_needs(engine: Engine) -> None:
    contract = engine.contract
    assert [(one.name, one.slot, one.size) for one in contract.cameras] == [
        (SCENE, "scene", (30, 40)),
        (WRIST, "left_wrist", None),
    ]
    assert contract.state.names == ("x_m", "y_m", "opening")
    assert contract.state.low == (-0.2, -0.2, 0.0)
    assert (contract.control_rate_hz, contract.horizon, contract.n_action_steps) == (10.0, 10, 5)
    assert (contract.checkpoint, contract.num_inference_steps, contract.needs_state) == ("c" * 64, 3, True)


def test_a_folder_is_loaded_as_the_settings_say(engine: Engine, tmp_path: Path) -> None:
    folder = save_policy(tmp_path / "checkpoint", engine.policy, rtc_max_delay=4)
    policy = ChosenPolicy(path=str(folder), device="cpu", n_action_steps=2, num_inference_steps=4)
    config = ServeConfig(policy=policy, strict=True, rename_map={"front": "scene"}, chunking="trained")
    loaded = Engine.load(config)
    assert (loaded.contract.chunking, loaded.contract.max_delay) == ("trained", 3)
    assert (loaded.contract.n_action_steps, loaded.contract.num_inference_steps) == (2, 4)
    assert loaded.contract.strict
    assert loaded.contract.cameras[0].name == "observation.images.front"
    assert loaded.contract.cameras[0].size == (30, 40)
    assert len(loaded.contract.checkpoint) == 64
    assert loaded.contract.step == 7
    wide = ChosenPolicy(path=str(folder), device="cpu", n_action_steps=11)
    with pytest.raises(CheckpointError, match="cannot execute more"):
        Engine.load(ServeConfig(policy=wide))
    with pytest.raises(CheckpointError, match="no policy is named"):
        Engine.load(ServeConfig())


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_a_policy_is_served_in_the_precision_that_is_asked_for(
    engine: Engine, tmp_path: Path, precision: Precision
) -> None:
    folder = save_policy(tmp_path / "checkpoint", engine.policy)
    chosen = ChosenPolicy(path=str(folder), device="cpu", num_inference_steps=3)
    loaded = Engine.load(ServeConfig(policy=chosen, precision=precision))
    codes = any(isinstance(module, QuantizedWeight) for module in loaded.policy.model.modules())
    assert codes == (precision == "int8")
    assert (loaded.policy.model.compute_dtype == torch.bfloat16) == (precision == "bfloat16")
    asked = [question(engine, 4)]
    (ours,), (plain,) = loaded.answer_all(asked), engine.answer_all(asked)
    assert isinstance(ours, Answered)
    assert isinstance(plain, Answered)
    apart = float(np.abs(ours.actions - plain.actions).max())
    assert apart < 1e-5 if precision == "float32" else 1e-5 < apart < 0.1


def test_the_precisions_are_those_of_the_network() -> None:
    assert get_args(Precision) == get_args(NetworkPrecision)


def test_it_is_warm_before_it_is_asked(engine: Engine) -> None:
    assert engine.warm_up([1, 2]) > 0


def test_the_self_test_asks_with_the_runs_own_observations(engine: Engine, tmp_path: Path) -> None:
    run = tmp_path / "run"
    own = [example_observation(engine.policy, seed) for seed in (5, 6)]
    (run / "step0").mkdir(parents=True)
    (run / "step0" / OBSERVATIONS).write_bytes(pack_observations(own))
    folder = save_policy(run / "checkpoints" / "000007", engine.policy)
    found = Engine(engine.policy, num_steps=3, folder=folder)
    observations, stored = stored_observations(folder, found)
    assert stored
    for mine, theirs in zip(observations, own, strict=True):
        for name, value in theirs.items():
            np.testing.assert_array_equal(mine[name], value)
    tested = selftest(ServeConfig(), found)
    assert (tested.observations, tested.stored) == (2, True)
    assert tested.batch_difference < 1e-5
    assert "bit for bit" in tested.render()


def test_the_self_test_has_chunks_continued(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    guided = Engine(engine.policy, num_steps=3, chunking="guided")
    assert "guided chunk what next_chunks answers" in selftest(ServeConfig(chunking="guided"), guided).render()
    answer_all = guided.answer_all
    forgetful = lambda questions: answer_all([replace(one, underway=None) for one in questions])  # noqa: E731
    monkeypatch.setattr(guided, "answer_all", forgetful)  # it says guided, and continues nothing
    with pytest.raises(ServeError, match="not that of the policy"):
        module.selftest(ServeConfig(), guided)


def test_the_self_test_notices_one_bit(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Engine(engine.policy, num_steps=3)
    answer_all = found.answer_all

    def off_by_one_bit(questions: Any) -> Any:
        answers = answer_all(questions)
        for answer in answers:
            if isinstance(answer, Answered):
                answer.actions.view(np.uint32)[3, 1] ^= 1
        return answers

    monkeypatch.setattr(found, "answer_all", off_by_one_bit)
    with pytest.raises(ServeError, match="not that of the policy"):
        module.selftest(ServeConfig(), found)


def test_a_file_of_observations_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / OBSERVATIONS
    held = io.BytesIO()
    np.save(held, np.zeros(3))
    whole = pack_observations([{STATE: np.arange(99.0), TASK: "go"}])
    at = whole.index(b"PK\x01\x02")  # zip's list of members, with the version and the method of the first
    newer, packed = (whole[: at + place] + b"\x90" + whole[at + place + 1 :] for place in (6, 10))
    damaged = whole[:60] + bytes(byte ^ 0x55 for byte in whole[60:90]) + whole[90:]
    broken = (b"", b"PK\x03\x04 broken", b"\x80\x04K\x01.", held.getvalue(), newer, packed, damaged)
    for content in (*broken, pack_observations([])):
        file.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read"):
            read_observations(file)


def test_stored_observations_of_other_cameras(engine: Engine, tmp_path: Path) -> None:
    one = example_observation(engine.policy)
    (tmp_path / "step0").mkdir()
    (tmp_path / "step0" / OBSERVATIONS).write_bytes(pack_observations([{SCENE: one[SCENE], STATE: one[STATE]}]))
    with pytest.raises(ServeError, match=r"of other cameras[\s\S]*2 pictures"):
        stored_observations(tmp_path, engine)
