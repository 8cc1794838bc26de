"""The documentation says what is so: links, files, tests and flags exist, quoted commands parse.

Its numbers: `test_docs_tables.py`. A quoted command that this version cannot do is marked with a comment
line "not yet in this version" before it; such a command must be refused, so that the mark goes when the capability
comes.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import CHINESE, ENGLISH, FENCE, PAGES, REPOSITORY, name_of, prose

from pi05 import cli, presets
from pi05.checkpoint.locate import locate
from pi05.commands import fetch
from pi05.commands.check import CHECK_FLAGS
from pi05.commands.plan import PLAN_FLAGS
from pi05.commands.train import read_command, read_training_settings
from pi05.data.config import DatasetConfig
from pi05.errors import ConfigError, UserError
from pi05.settings.flags import overlay, parse_flags
from pi05.settings.lerobot_flags import translate_training_flag
from pi05.settings.lerobot_parallel import Degrees
from pi05.settings.schema import from_plain, walk
from pi05.train.config import TINY_BASE, PolicyConfig, TrainConfig
from pi05.train.inputs.inherit import inherit

NOT_YET = "not yet in this version"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
LEROBOT_RUN = REPOSITORY / "tests" / "golden" / "lerobot_checkpoints" / "full" / "train_config.json"
LIVES_IN = (REPOSITORY, REPOSITORY / "src" / "pi05", REPOSITORY / "tests")
OF_A_RUN = ("RUN/", "OUT/", "runs/", "outputs/", "meta/", "so101_cube", "step0/", "training_state/")
OF_A_LAB = ("local_dataset", "pi05_base_model", "pi05_libero_base_model", "paligemma_model", "libero-assets", "bundle/")
"""How paths begin that a run, a data set or a lab has, and this repository has not."""


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def slug(heading: str) -> str:
    """Return GitHub's anchor of a heading."""
    words = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return words.strip().replace(" ", "-")


def headings(page: Path) -> list[tuple[int, str]]:
    return [(len(marks), text) for marks, text in re.findall(r"^(#+) (.+)$", prose(page), re.M)]


# --- links and files --------------------------------------------------------------------------------------------------


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)} links to {target}"
        if anchor:
            assert anchor in {slug(text) for _, text in headings(file)}, f"{name_of(page)}: no such heading: {target}"


@every_page
def test_named_files_and_tests_exist(page: Path) -> None:
    for span in SPAN.findall(prose(page)):
        path, _, test = span.partition("::")
        if not re.fullmatch(r"[\w./-]+(/|\.(py|sh|md|json|html|txt))", path) or path.startswith((*OF_A_RUN, *OF_A_LAB)):
            continue
        if "/" not in path and not path.endswith((".py", ".sh")):
            continue
        found = [root / path for root in LIVES_IN if (root / path).exists()]
        assert found, f"{name_of(page)} names {span}"
        assert f"def {test}(" in found[0].read_text() if test else True, f"{name_of(page)} names {span}"


def test_every_page_is_reached_from_the_readme() -> None:
    seen, waiting = set(), [ENGLISH, CHINESE]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        if page.is_dir():
            waiting += page.glob("*.md")
        elif page.suffix == ".md":
            targets = (target.partition("#")[0] for target in LINK.findall(prose(page)))
            waiting += [(page.parent / target).resolve() for target in targets if target and ":" not in target]
    assert set(PAGES) <= seen


def test_every_default_is_told() -> None:
    text = "".join(page.read_text() for page in PAGES)
    without_choice = {"policy.type", "policy.device", "dataset.video_backend", "network"}
    settings = [setting.path for setting in walk(TrainConfig) if setting.default not in (None, (), {})]
    assert {path for path in settings if f"--{path}" not in text} <= without_choice


def test_details_are_numbered_in_order() -> None:
    numbers = re.findall(r"^\| (\d+) \|", prose(REPOSITORY / "docs" / "details.md"), re.M)
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    assert numbers


# --- commands ---------------------------------------------------------------------------------------------------------


def quoted_commands(page: Path) -> Iterator[tuple[str, bool]]:
    """Yield the command lines of shell blocks, and whether each is marked as not there yet."""
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language != "bash":
            continue
        marked = False
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("#"):
                marked = NOT_YET in line
            elif line.strip():
                yield line, marked
                marked = False


COMMANDS = [(name_of(page), line, marked) for page in PAGES for line, marked in quoted_commands(page)]
OURS = [
    (page, re.sub(r"^torchrun .* -m pi05 ", "pi05 ", line), marked)
    for page, line, marked in COMMANDS
    if line.startswith(("pi05 ", "torchrun "))
]
WORDS = {"report": 1, "export": 2, "inspect": 1, "replay": 1, "push": 1, "completion": 1, "fetch": 1}
"""How many words besides flags a command takes; none unless it is here."""


def parse(words: list[str]) -> None:
    """Read a command line as the program does, in a folder where all that it names exists."""
    name, arguments = words[0], words[1:]
    if name == "train":
        read_command(arguments)
        return
    if name == "plan":
        read_training_settings(arguments, PLAN_FLAGS)
        return
    if name == "check":
        request, _ = read_training_settings(arguments, CHECK_FLAGS, word="dataset.root")
        assert request.config.dataset.root is not None
        return
    if name == "fetch" and any(word.startswith("--bundle") for word in arguments):
        read_training_settings(arguments, (fetch.BUNDLE, fetch.WHEELS, fetch.MIRROR))
        return
    settings = cli.COMMANDS[name].settings
    flags = parse_flags(settings, arguments)
    again = name == "export" and {"verify", "relocate"} & set(flags.values)
    compared = name == "eval" and "compare" in flags.values
    recorded = compared and "dataset.root" in flags.values
    several = (name == "report" or recorded) and len(flags.words) > 1
    assert several or len(flags.words) == (1 if again or compared else WORDS.get(name, 0))
    if name != "report":
        from_plain(settings, overlay({}, flags.values))


def prepare(words: list[str]) -> None:
    """Make the folders that a training command reads."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name == "--config_path" and value.endswith("train_config.json"):  # a run of LeRobot's
            Path(value).parent.mkdir(parents=True)
            shutil.copy(LEROBOT_RUN, value)
        if name == "--dataset.repo_id" and "--dataset.root" not in " ".join(words):
            (Path("local_dataset") / "meta").mkdir(parents=True, exist_ok=True)
            Path("local_dataset/meta/info.json").write_text("{}")
        if name in ("--dataset.root", "--policy.path", "--policy.pretrained_path") and value != presets.TINY_BASE.name:
            Path(value).mkdir(parents=True, exist_ok=True)
        if name == "--resume":
            run = Path(value or following)
            run.mkdir(parents=True)
            started = TrainConfig(output_dir=str(run), dataset=DatasetConfig(root=str(run)))
            (run / "config.json").write_text(started.to_json())


@pytest.mark.parametrize(("page", "line", "marked"), OURS)
def test_quoted_commands_parse(
    page: str, line: str, marked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = tmp_path / "pi05-tiny"
    base.mkdir()
    monkeypatch.setattr(presets, "TINY_BASE", base)
    words = shlex.split(line, comments=True)[1:]
    prepare(words)
    if not marked:
        parse(words)
        return
    with pytest.raises(UserError):
        parse(words)


def test_commands_were_found() -> None:
    commands = {shlex.split(line)[1] for _, line, marked in OURS if not marked}
    assert {"train", "eval", "collect", "report"} <= commands


def of_lerobot(flag: str) -> bool:
    """Tell whether a flag is one of LeRobot's that the command line answers to."""
    try:
        return (Degrees().translate(flag, "1") or translate_training_flag(flag, "x")) is not None
    except ConfigError:
        return True


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_flags_exist(page: Path) -> None:
    """Flags in running text: `--name` or `--name=value` of a command of ours, or of LeRobot's."""
    known = {setting.path for command in cli.COMMANDS.values() for setting in (*walk(command.settings), *command.extra)}
    known |= {name.removeprefix("--") for command in cli.COMMANDS.values() for name, _ in command.spellings()}
    foreign = {"robot.max_relative_target", "inference.type", "help"}  # spoken of, not ours
    for span in SPAN.findall(prose(page)):
        for flag in re.findall(r"(?:^|\s)--([\w.]+)", span):
            group = flag.endswith(".") and any(name.startswith(flag) for name in known)
            assert flag in known | foreign or group or of_lerobot(flag), f"{name_of(page)} names --{flag}"


@pytest.mark.parametrize(("page", "line"), [(page, line) for page, line, _ in COMMANDS])
def test_scripts_targets_and_variables_exist(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    settings = [word.partition("=")[0] for word in words if re.match(r"[A-Z_]+=", word)]
    rest = words[len(settings) :]
    if rest[:1] == ["make"]:
        targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.M)
        assert set(rest[1:]) <= set(targets), line
    if rest[:1] == ["bash"]:
        text = (REPOSITORY / rest[1]).read_text()
        assert all(f'{name}="${{{name}:-' in text for name in settings), line


# --- the two READMEs --------------------------------------------------------------------------------------------------


def test_both_readmes_have_the_same_sections() -> None:
    assert [level for level, _ in headings(ENGLISH)] == [level for level, _ in headings(CHINESE)]


def test_both_readmes_have_the_same_code() -> None:
    assert FENCE.findall(ENGLISH.read_text()) == FENCE.findall(CHINESE.read_text())


def test_both_readmes_have_the_same_numbers_spans_and_links() -> None:
    for pattern in (r"\d[\d.,]*(?:e-?\d+)?", SPAN.pattern, LINK.pattern):
        english, chinese = (
            Counter(found.rstrip(".,") for found in re.findall(pattern, prose(page).replace("README.zh-CN", "README")))
            for page in (ENGLISH, CHINESE)
        )
        assert english == chinese, pattern


def test_whose_formula_a_run_has_is_as_the_details_say() -> None:
    """The row on 1e-6 excepts LeRobot's bases, whose runs have LeRobot's formula."""
    row = next(line for line in (REPOSITORY / "docs/details.md").read_text().splitlines() if "1e-6 is added" in line)
    lerobot = REPOSITORY / "tests" / "golden" / "lerobot_checkpoints" / "full"
    formulas = [
        inherit(TrainConfig(policy=PolicyConfig(path=str(base))), locate(base)).formula for base in (TINY_BASE, lerobot)
    ]
    assert formulas == ["openpi", "lerobot"]
    assert "except in runs from a LeRobot base, which keep LeRobot's formula" in row
