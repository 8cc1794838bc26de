from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from serving import CONTRACT

from pi05.errors import ServeError
from pi05.serve.protocol import Contract, require_rate


def test_a_contract_survives_the_wire() -> None:
    assert Contract.from_metadata(CONTRACT.to_metadata()) == CONTRACT


def test_what_a_robot_s_program_must_know_is_told() -> None:
    """In the first frame, which every client gets and any of them can read."""
    told = replace(CONTRACT, relative=(True,) * 6 + (False,), strict=True).to_metadata()
    contract = told["contract"]
    assert [(one["name"], one["slot"], one["size"]) for one in contract["cameras"]] == [
        ("observation.images.image", "scene", [4, 5]),
        ("observation.images.image2", "left_wrist", None),
    ]
    assert (contract["image_size"], told["image_layout"]) == (48, "uint8, height × width × RGB, 0 to 255")
    assert (contract["state"]["dim"], contract["state"]["low"], contract["state"]["high"]) == (8, [-1.0] * 8, [1.0] * 8)
    assert (contract["action"]["dim"], contract["action"]["names"]) == (7, list("xyzabcg"))
    assert told["units"] == "as recorded in the training data"
    assert (contract["control_rate_hz"], contract["horizon"], contract["n_action_steps"]) == (20.0, 10, 3)
    assert told["representation"] == "absolute, predicted relative to the state"
    assert CONTRACT.to_metadata()["representation"] == "absolute"
    assert (contract["checkpoint"], contract["step"], contract["strict"]) == ("c" * 64, 7, True)


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
