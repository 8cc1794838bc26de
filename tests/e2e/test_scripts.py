"""The three entry points that a lab keeps: what they call, what they refuse, and the tiny preset from end to end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pi05 as package

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = REPOSITORY / "scripts"
TRAINERS = ("train_pi05_sim.sh", "train_pi05_real.sh")
# The scripts read their settings from the environment, so that nothing of the machine's may leak in.
CLEAN = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}


def run(script: Path, *arguments: str, cwd: Path | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**CLEAN, "OMP_NUM_THREADS": "1", **settings}
    return subprocess.run(
        ["bash", str(script), *arguments], env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """Return a copy of the scripts, so that folders can be put beside them."""
    folder = tmp_path / "lab" / "scripts"
    folder.mkdir(parents=True)
    for file in SCRIPTS.glob("*.sh"):
        shutil.copy2(file, folder)
    return folder


@pytest.fixture(scope="module")
def pi05(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a program that is `pi05` of this environment."""
    file = tmp_path_factory.mktemp("bin") / "pi05"
    source = Path(package.__file__).parents[1]  # wherever this run's own code lies
    file.write_text(f'#!/bin/sh\nPYTHONPATH={source} exec {sys.executable} -m pi05 "$@"\n')
    file.chmod(0o755)
    return str(file)


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory, pi05: str) -> Path:
    """Return twelve scripted demonstrations."""
    folder = tmp_path_factory.mktemp("data") / "demonstrations"
    subprocess.run([pi05, "collect", "--episodes=12", f"--output={folder}"], check=True, capture_output=True)
    return folder


def say(name: str) -> dict[str, str]:
    """Return settings that make a script print its call instead of making it."""
    return {"PI05": "/bin/echo", "PRESET": name}


@pytest.mark.parametrize("script", TRAINERS)
def test_names_are_left_to_the_program_which_is_told_where_the_scripts_lie(
    script: str, scripts: Path, tmp_path: Path
) -> None:
    (tmp_path / "say").write_text('#!/bin/sh\nprintf "%s\\n" "$PI05_SCRIPTS" "$@"\n')
    (tmp_path / "say").chmod(0o755)
    answer = run(scripts / script, "--seed=7", cwd=tmp_path, PI05=str(tmp_path / "say"))
    assert answer.returncode == 0, answer.stderr
    words = answer.stdout.splitlines()
    assert words[:2] == [str(scripts), "train"]
    assert words[-1] == "--seed=7"
    data = "--dataset.repo_id=HuggingFaceVLA/libero" if "sim" in script else "--dataset.root=local_dataset"
    assert {data, "--policy.path=lerobot/pi05_base"} <= set(words)
    assert not [word for word in words if word.startswith("--policy.tokenizer_path")]


@pytest.mark.parametrize("script", TRAINERS)
def test_a_data_set_is_a_folder_or_a_name(script: str, scripts: Path, tmp_path: Path) -> None:
    for given, flag in [("me/data@v3.0", "--dataset.repo_id=me/data@v3.0"), (".", "--dataset.root=.")]:
        answer = run(scripts / script, cwd=tmp_path, PI05="/bin/echo", DATASET=given)
        assert flag in answer.stdout.split()


@pytest.mark.parametrize("place", ["", "scripts"])
def test_the_labs_folders_are_found_beside_the_scripts_and_in_them(
    place: str, scripts: Path, pi05: str, tmp_path: Path
) -> None:
    """The data set is found; that it is none is the next thing to be said."""
    folder = scripts.parent / place / "local_dataset"
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text("{}")
    settings = {"PRESET": "tiny", "PI05": pi05, "HF_HUB_OFFLINE": "1"}
    answer = run(scripts / TRAINERS[1], cwd=tmp_path, **settings)
    assert answer.returncode == 2
    assert f"local_dataset: {folder}" in answer.stderr
    assert "unknown format version" in answer.stderr


def test_what_is_nowhere_is_named_with_the_command_that_fetches_it(scripts: Path, pi05: str, tmp_path: Path) -> None:
    answer = run(scripts / TRAINERS[0], cwd=tmp_path, PI05=pi05, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "home"))
    assert answer.returncode == 2
    assert "HuggingFaceVLA/libero is not in reach" in answer.stderr
    assert "pi05 fetch libero" in answer.stderr


@pytest.mark.parametrize(("script", "preset"), [("train_pi05_sim.sh", "sim"), ("train_pi05_real.sh", "real")])
def test_every_setting_reaches_the_command_line(script: str, preset: str, scripts: Path, tmp_path: Path) -> None:
    settings = {
        "DATASET": str(tmp_path),
        "BASE_MODEL": str(tmp_path),
        "TOKENIZER": str(tmp_path),
        "METHOD": "expert",
        "STEPS": "3",
        "BATCH_SIZE": "4",
        "GRADIENT_ACCUMULATION": "2",
        "LEARNING_RATE": "1e-4",
        "NUM_WORKERS": "5",
        "RENAME_MAP": "{a: scene}",
        "JOB_NAME": "job",
        "OUTPUT_DIR": "out",
        "WANDB": "true",
        "WANDB_PROJECT": "project",
        "WANDB_ENTITY": "team",
        "WANDB_MODE": "offline",
        "HUB_REPO": "me/policy",
    }
    # printf writes one argument per line, so that values with spaces stay whole
    (tmp_path / "say").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "say").chmod(0o755)
    answer = run(scripts / script, PI05=str(tmp_path / "say"), **settings)
    assert answer.returncode == 0, answer.stderr
    assert set(answer.stdout.splitlines()) == {
        "train",
        f"--preset={preset}",
        f"--dataset.root={tmp_path}",
        f"--policy.path={tmp_path}",
        f"--policy.tokenizer_path={tmp_path}",
        "--policy.train_expert_only=true",
        "--steps=3",
        "--batch_size=4",
        "--gradient_accumulation_steps=2",
        "--policy.optimizer_lr=1e-4",
        "--num_workers=5",
        "--rename_map={a: scene}",
        "--job_name=job",
        "--output_dir=out",
        "--wandb.enable=true",
        "--wandb.project=project",
        "--wandb.entity=team",
        "--wandb.mode=offline",
        "--policy.push_to_hub=true",
        "--policy.repo_id=me/policy",
    }


@pytest.mark.parametrize("script", TRAINERS)
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_lora_with_its_numbers(script: str, method: str, scripts: Path, tmp_path: Path) -> None:
    folders = {"DATASET": str(tmp_path), "BASE_MODEL": str(tmp_path), "TOKENIZER": str(tmp_path)}
    settings = {"METHOD": method, "LORA_RANK": "32", "LORA_ALPHA": "64"}
    answer = run(scripts / script, **folders, **settings, PI05="/bin/echo")
    assert answer.returncode == 0, answer.stderr
    assert {f"--method={method}", "--peft.r=32", "--peft.lora_alpha=64"} <= set(answer.stdout.split())


def test_wandb_stays_out_unless_it_is_switched_on(scripts: Path, tmp_path: Path) -> None:
    answer = run(scripts / TRAINERS[0], DATASET=str(tmp_path), **say("tiny"))
    assert "--wandb" not in answer.stdout


def test_liberos_cameras_are_mapped(scripts: Path, tmp_path: Path) -> None:
    folders = {"DATASET": str(tmp_path), "BASE_MODEL": str(tmp_path), "TOKENIZER": str(tmp_path)}
    answer = run(scripts / "train_pi05_sim.sh", **folders, **say("sim"))
    wanted = "--rename_map={observation.images.image: scene, observation.images.image2: left_wrist}"
    assert wanted in answer.stdout


@pytest.mark.parametrize("script", TRAINERS)
@pytest.mark.parametrize(
    ("settings", "problem", "remedy"),
    [
        ({"LORA_RANK": "16"}, "LORA_RANK and LORA_ALPHA belong to METHOD=lora or qlora", "METHOD=lora"),
        ({"METHOD": "half"}, "METHOD=half is not known", "full"),
    ],
)
def test_what_is_missing_or_not_possible_is_named(
    script: str, settings: dict[str, str], problem: str, remedy: str, scripts: Path, tmp_path: Path
) -> None:
    answer = run(scripts / script, cwd=tmp_path, **{"PI05": "/bin/echo", **settings})
    assert answer.returncode == 2
    assert answer.stdout == ""
    first, second = answer.stderr.splitlines()
    assert first.startswith("error: ")
    assert problem in first
    assert second.startswith("  to do:  ")
    assert remedy in second


def test_a_missing_installation_is_named(scripts: Path) -> None:
    answer = run(scripts / TRAINERS[0], PATH="/usr/bin:/bin")
    assert answer.returncode == 2
    assert "pi05 is not installed" in answer.stderr
    assert "make setup" in answer.stderr


@pytest.mark.parametrize(
    ("settings", "problem"), [({}, "no policy was given"), ({"POLICY": "nowhere"}, "there is no policy at nowhere")]
)
def test_evaluation_names_a_missing_policy(
    settings: dict[str, str], problem: str, scripts: Path, tmp_path: Path
) -> None:
    answer = run(scripts / "eval_pi05.sh", cwd=tmp_path, PI05="/bin/echo", **settings)
    assert answer.returncode == 2
    assert problem in answer.stderr


def test_evaluation_takes_the_newest_run(scripts: Path, tmp_path: Path) -> None:
    for age, name in enumerate(["b run", "a"]):
        folder = tmp_path / "runs" / name / "checkpoints"
        (folder / "000010").mkdir(parents=True)
        (folder / "last").symlink_to("000010")
        os.utime(folder / "last", (1e9 - age, 1e9 - age), follow_symlinks=False)
    settings = {"PI05": "/bin/echo", "N_ACTION_STEPS": "3", "ENVIRONMENT": "tabletop"}
    answer = run(scripts / "eval_pi05.sh", "--films=1", cwd=tmp_path, **settings)
    assert answer.stdout.startswith("eval --policy.path=runs/b run --policy.n_action_steps=3 --env=tabletop")
    assert answer.stdout.rstrip().endswith("--family=demo --episodes=50 --films=1")


def test_evaluation_goes_through_libero_s_suites_to_one_table(scripts: Path, tmp_path: Path) -> None:
    """A suite that is finished is left alone; one that was interrupted goes on."""
    (tmp_path / "out" / "libero_object").mkdir(parents=True)
    (tmp_path / "out" / "libero_object" / "results.json").write_text("{}")
    settings = {"PI05": "/bin/echo", "POLICY": str(tmp_path), "OUTPUT_DIR": "out", "PROTOCOL": "lerobot"}
    answer = run(scripts / "eval_pi05.sh", "--films=1", cwd=tmp_path, EPISODES_PER_TASK="2", **settings)
    assert answer.returncode == 0, answer.stderr
    *suites, table = answer.stdout.splitlines()
    flags = f"--policy.path={tmp_path} --env=libero --protocol=lerobot --episodes_per_task=2"
    assert suites == [
        f"eval {flags} --suite={suite} --output_dir=out/{suite} --resume --films=1"
        for suite in ("libero_spatial", "libero_goal", "libero_10")
    ]
    assert table == ("report out/libero_spatial out/libero_object out/libero_goal out/libero_10 --output=out")


def test_evaluation_in_another_environment_is_refused(scripts: Path, tmp_path: Path) -> None:
    settings = {"PI05": "/bin/echo", "POLICY": str(tmp_path), "ENVIRONMENT": "metaworld"}
    answer = run(scripts / "eval_pi05.sh", cwd=tmp_path, **settings)
    assert answer.returncode == 2
    assert "there is no environment metaworld" in answer.stderr


@pytest.mark.parametrize("script", [TRAINERS[0], pytest.param(TRAINERS[1], marks=pytest.mark.slow)])
def test_the_tiny_preset_trains_and_evaluates(script: str, demonstrations: Path, pi05: str, tmp_path: Path) -> None:
    settings = {"PI05": pi05, "PRESET": "tiny", "DATASET": str(demonstrations), "PI05_CACHE": str(tmp_path / "cache")}
    trained = run(SCRIPTS / script, "--threads=1", cwd=tmp_path, STEPS="4", BATCH_SIZE="4", JOB_NAME="lab", **settings)
    assert trained.returncode == 0, trained.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("lab-")
    config = json.loads((folder / "config.json").read_text())
    assert (config["preset"], config["steps"], config["batch_size"]) == ("tiny", 4, 4)
    flags = ("--threads=1", "--films=1")
    report = tmp_path / "evaluation"
    measure = {"PI05": pi05, "ENVIRONMENT": "tabletop", "EPISODES": "2", "OUTPUT_DIR": str(report)}
    evaluated = run(SCRIPTS / "eval_pi05.sh", *flags, cwd=tmp_path, **measure)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "Wilson" in evaluated.stdout
    assert (report / "report.html").stat().st_size > 1_000
