from __future__ import annotations

from typing import Any

import pytest

from pi05.cli import main
from pi05.errors import ConfigError
from pi05.serve.config import ServeConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": -1},
        {"port": 65536},
        {"max_batch": 0},
        {"max_clients": 0},
        {"batch_wait_ms": -1.0},
        {"batch_wait_ms": 1001.0},
        {"max_requests_per_s": 0.0},
        {"max_message_mib": 0.0},
        {"idle_timeout_s": 0.0},
        {"threads": 0},
        {"tls_cert": "x"},
        {"tls_key": "x"},
    ],
)
def test_settings_that_cannot_be_name_their_flag(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--(" + "|".join([*wrong, "tls_cert"]) + ")"):
        ServeConfig(**wrong)


def test_all_that_strict_refuses_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """The state, the pictures and the instruction, as `prepared.prepare` does."""
    assert main(["serve", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.partition("--strict")[2].partition("\n  --")[0].split())
    for word in (
        "state outside of the training range",
        "turned, mirrored, red for blue or of another camera",
        "instruction",
    ):
        assert word in told


def test_who_can_connect() -> None:
    assert ServeConfig().loopback
    assert not ServeConfig(host="0.0.0.0").loopback
    assert not ServeConfig(host="localhost.evil.example").loopback
