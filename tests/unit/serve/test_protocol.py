from __future__ import annotations

from typing import Any

import pytest
from serving import CONTRACT

from pi05.errors import ServeError
from pi05.serve.protocol import Contract, require_rate


def test_a_contract_survives_the_wire() -> None:
    assert Contract.from_metadata(CONTRACT.to_metadata()) == CONTRACT


@pytest.mark.parametrize("changes", [{"protocol": "other"}, {"protocol_version": 2}, {"contract": None}])
def test_a_server_of_another_kind_is_told(changes: dict[str, Any]) -> None:
    with pytest.raises(ServeError):
        Contract.from_metadata({**CONTRACT.to_metadata(), **changes})


def test_what_a_newer_server_tells_besides_is_passed_over() -> None:
    metadata = CONTRACT.to_metadata()
    metadata["contract"]["something_new"] = 1
    assert Contract.from_metadata(metadata) == CONTRACT


def test_rates_within_five_percent_are_the_same() -> None:
    for hz in (20.0, 19.1, 20.9):
        require_rate(hz, 20.0)
    for hz in (18.9, 21.1, 30.0, 10.0):
        with pytest.raises(ServeError, match="20 Hz"):
            require_rate(hz, 20.0)
    require_rate(30.0, None)  # a foreign checkpoint does not tell its rate


def test_cameras_are_compared_without_prefix_and_order() -> None:
    CONTRACT.require(cameras=["image2", "observation.images.image"])
    CONTRACT.require(cameras=["image2", "image", "depthless"])  # one that is dropped on purpose
    for wrong in (["image"], ["image", "image2", "front"], []):
        with pytest.raises(ServeError, match="cameras"):
            CONTRACT.require(cameras=wrong)
    with pytest.raises(ServeError, match="action dimensions"):
        CONTRACT.require(action_names=tuple("yxzabcg"))
    CONTRACT.require(state_names=["anything"])  # the checkpoint does not name them
