"""One small recording with a checkpoint that fits it, for all tests here; none may change it."""

from __future__ import annotations

import pytest
from recorded_cases import Recorded, write_case

from pi05.data.lerobot.reader import Dataset


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return write_case(tmp_path_factory.mktemp("recorded"))


@pytest.fixture
def dataset(case: Recorded) -> Dataset:
    return Dataset(case.data)
