"""Settings of the data set."""

from __future__ import annotations

import pytest

from pi05.data.config import DatasetConfig
from pi05.errors import ConfigError
from pi05.settings.schema import from_plain, to_plain


def test_round_trip() -> None:
    config = DatasetConfig(root="a", episodes=(0, 2), exclude_episodes=(), eval_split=0.0)
    assert from_plain(DatasetConfig, to_plain(config)) == config


@pytest.mark.parametrize("episodes", [(), (1, 1), (-1,)])
def test_impossible_episodes_are_refused(episodes: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"--dataset\.episodes cannot be"):
        DatasetConfig(episodes=episodes)


@pytest.mark.parametrize("share", [-0.01, 1.0, float("nan")])
def test_impossible_shares_are_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"--dataset\.eval_split cannot be"):
        DatasetConfig(eval_split=share)


@pytest.mark.parametrize("name", ["state", "action"])
@pytest.mark.parametrize("columns", [(), ("a", "a"), ("a", "")])
def test_impossible_columns_are_refused(name: str, columns: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=rf"--dataset\.{name} cannot be"):
        DatasetConfig(**{name: columns})
