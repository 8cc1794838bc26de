"""`pi05 export` as it is typed: words, flags, exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi05 import cli
from pi05.train.config import TINY_BASE


def test_export_verify_relocate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert cli.main(["export", "--to=lerobot", str(TINY_BASE), str(out)]) == 0
    told = capsys.readouterr().out
    assert f"wrote {out} (lerobot" in told
    assert "made for LeRobot 0.6.0, LeRobot 0.6.1, " in told
    assert cli.main(["export", "--verify", str(out)]) == 0
    assert "stored actions" in capsys.readouterr().out
    assert cli.main(["export", "--relocate", str(out)]) == 0
    assert "nothing to rewrite" in capsys.readouterr().out
    out.rename(tmp_path / "moved")
    assert cli.main(["export", str(tmp_path / "moved"), "--relocate"]) == 0
    assert f"→ {tmp_path / 'moved' / 'tokenizer'}" in capsys.readouterr().out
    weights = tmp_path / "moved" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    assert cli.main(["export", "--verify", str(tmp_path / "moved"), f"--source={TINY_BASE}"]) == 2
    assert "model.safetensors has another content" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "takes a source and a folder to write"),
        (["RUN"], "takes a source and a folder to write"),
        (["RUN", "OUT"], "needs a layout"),
        (["--to=lerobot", "RUN", "OUT", "--source=X"], "--source goes with --verify only"),
        (["--to=onnx", "RUN", "OUT"], "--to cannot be onnx"),
        (["--to=lerobot", "/nowhere", "OUT"], "no such checkpoint"),
        (["--verify"], "takes one folder"),
        (["--verify", "--relocate", "OUT"], "two commands"),
        (["--verify", "OUT", "--to=lerobot"], "--to has no meaning with --verify"),
        (["--relocate", "OUT", "--dtype=bfloat16"], "--dtype has no meaning with --relocate"),
        (["--to=lerobot", "RUN", "OUT", "--device=gpu"], "--device cannot be gpu"),
    ],
)
def test_what_does_not_go_together(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_prompt_format_none_is_a_format_and_not_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The packaged policy has the state in its prompt, so that this must be refused and not passed over."""
    words = ["export", "--to=pi05", "--prompt_format", "none", str(TINY_BASE), str(tmp_path / "out")]
    assert cli.main(words) == 2
    assert "another prompt format" in capsys.readouterr().err
