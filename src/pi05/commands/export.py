"""`pi05 export`: from words and flags to an export, a verification or a relocation. No torch when it is imported."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pi05.commands.command import OFFLINE, Command, read_words
from pi05.errors import CheckpointError, ConfigError, doing, tell
from pi05.settings.schema import Checked

USAGE = {
    "export": "pi05 export --to=lerobot|openpi|pi05 RUN OUT",
    "verify": "pi05 export --verify OUT [--source=RUN]",
    "relocate": "pi05 export --relocate OUT [--base_name=BASE]",
}
_OF = {
    "verify": {"verify", "source", "device", "base"},
    "relocate": {"relocate", "base_name"},
}
"""Flags that go with each of the two."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Checked):
    """Settings of `pi05 export`."""

    to: Literal["lerobot", "openpi", "pi05"] | None = None
    """Whose layout to write: lerobot (for its robots, lerobot-eval and lerobot-rollout), openpi (for its PyTorch
    server), or pi05 (one folder with all that a policy needs, without training state)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the written weights; bfloat16 takes half the disk, and keeps in float32 what the other program
    keeps so."""
    adapter_only: bool = False
    """Write the LoRA adapter alone, for LeRobot or pi05; without this flag it is merged into its base."""
    asset_id: str | None = None
    """Name under which openpi finds the statistics; the data set's name when not given. Of an openpi checkpoint with
    several statistics it chooses one."""
    base: str | None = None
    """Where the base of an adapter is, when not where the adapter says."""
    base_name: str | None = None
    """What a written adapter calls its base (a path or a repository); the base's absolute path when not given."""
    with_base: bool = False
    """With --to=lerobot --adapter_only: write the base into OUT/base as well, in the layout that LeRobot reads."""
    tokenizer_name: str | None = None
    """What LeRobot looks the tokenizer up by, such as the repository that the folder goes to; the absolute path of
    OUT/tokenizer when not given."""
    accept_edited: tuple[str, ...] = ()
    """Fields of config.json that were edited after training and are to be exported as they are, by name."""
    tokenizer_path: str | None = None
    """Tokenizer file or folder, for a checkpoint that holds none."""
    prompt_format: Literal["auto", "state", "state32", "none"] = "auto"
    """Prompt format of the policy; auto is what its folder tells, which openpi's and LeRobot's before 0.5.1 do not."""
    horizon: int | None = None
    """Actions in a chunk, 1 or more, where the folder does not tell: openpi's."""
    adapt_to_pi: bool | None = None
    """Of an openpi folder with ALOHA's 14 numbers: false when it was trained without openpi's joint flip and gripper
    map, which pi05 does not have."""
    rename_map: dict[str, str] = field(default_factory=dict)
    """Robot's camera → the policy's camera or slot (scene, left_wrist, right_wrist), for folders without names."""
    device: str = "cpu"
    """Where the probe is computed, always in float32: cpu, cuda, cuda:N, or auto."""
    verify: bool = False
    """Compare an exported folder with the actions stored in it and with its source: pi05 export --verify OUT."""
    source: str | None = None
    """With --verify: the source to compare with, when it is not where it was."""
    relocate: bool = False
    """Rewrite the absolute paths in an exported folder after it was moved: pi05 export --relocate OUT."""

    def _limits(self) -> None:
        self._at_least(1, "horizon")
        self._require(bool(re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device)), "device", "auto, cpu, cuda or cuda:N")


def export(arguments: Sequence[str]) -> int:
    """Run `pi05 export`."""
    run_export(*read_words(ExportConfig, arguments))
    return 0


def run_export(config: ExportConfig, words: Sequence[str]) -> None:
    """Do what the flags say. Raises ConfigError for flags or words that do not go together."""
    if config.verify and config.relocate:
        raise ConfigError("--verify and --relocate are two commands", remedy="give one of them")
    if config.verify:
        (out,) = _words("verify", words, 1)
        _only("verify", config)
        from pi05.export.verify import verify

        with doing("verify", out, CheckpointError):
            verify(out, source=config.source, device=_device(config), base=config.base)
    elif config.relocate:
        (out,) = _words("relocate", words, 1)
        _only("relocate", config)
        from pi05.export.relocate import relocate

        with doing("rewrite the paths in", out, CheckpointError):
            lines = relocate(out, base_name=config.base_name)
        for line in lines or [f"{out}: nothing to rewrite, its paths are right"]:
            tell(line)
    else:
        source, out = _words("export", words, 2)
        with doing(f"export {source} to", out, CheckpointError):
            _export(config, source, out)


def _export(config: ExportConfig, source: Path, out: Path) -> None:
    if config.to is None:
        raise ConfigError(
            "pi05 export needs a layout", wanted=USAGE["export"], remedy="add --to=lerobot, openpi or pi05"
        )
    if config.source is not None:
        raise ConfigError("--source goes with --verify only", remedy="leave --source out: the source stands before OUT")
    from pi05.checkpoint.locate import locate
    from pi05.checkpoint.policy_options import PolicyOptions
    from pi05.export.export import export_policy

    location = locate(source)
    of_openpi = location.kind in ("openpi", "jax")
    options = PolicyOptions(
        prompt_format=None if config.prompt_format == "auto" else config.prompt_format,
        rename_map=config.rename_map or None,
        asset_id=config.asset_id if of_openpi else None,
        horizon=config.horizon,
        adapt_to_pi=config.adapt_to_pi,
        tokenizer_path=config.tokenizer_path,
        accept_edited=config.accept_edited,
    )
    export_policy(
        location,
        out,
        to=config.to,
        adapter_only=config.adapter_only,
        dtype=config.dtype,
        tokenizer_name=config.tokenizer_name,
        asset_id=config.asset_id if config.to == "openpi" or not of_openpi else None,
        base=config.base,
        base_name=config.base_name,
        with_base=config.with_base,
        device=_device(config),
        options=options,
    )


def _device(config: ExportConfig) -> str:
    from pi05.machine import choose_device

    return str(choose_device(config.device))


def _words(command: str, words: Sequence[str], count: int) -> list[Path]:
    if len(words) != count:
        names = "a source and a folder to write" if count == 2 else "one folder"
        raise ConfigError(
            f"pi05 export{'' if command == 'export' else f' --{command}'} takes {names}",
            wanted=USAGE[command],
            found=" ".join(words) or "no path",
            remedy="write paths as words of their own, flags as --name=value",
        )
    return [Path(word) for word in words]


def _only(command: str, config: ExportConfig) -> None:
    """Raise ConfigError for a flag that has no meaning in this command."""
    plain: dict[str, Any] = vars(ExportConfig())
    strange = [name for name, value in vars(config).items() if value != plain[name] and name not in _OF[command]]
    if strange:
        raise ConfigError(
            f"--{strange[0]} has no meaning with --{command}", wanted=USAGE[command], remedy=f"leave --{strange[0]} out"
        )


COMMAND = Command(
    summary="Write LeRobot's, openpi's or our layout, with proof of equality.",
    usage=(
        "pi05 export --to=lerobot|openpi|pi05 RUN OUT [flags]\n"
        "       pi05 export --verify OUT [--source=RUN]\n"
        "       pi05 export --relocate OUT"
    ),
    run=export,
    settings=ExportConfig,
    extra=(OFFLINE,),
)
