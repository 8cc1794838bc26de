from __future__ import annotations

import json

from pi05.checkpoint.receipt import Receipt

RECEIPT = Receipt(
    source="base/model.safetensors",
    layout="LeRobot",
    loaded=("a.weight", "b.weight"),
    tied={"embedding.weight": "lm_head.weight"},
    ignored={"expert.lm_head.weight": "not used by π₀.₅"},
    parameters=3_353_433_872,
    bytes=6_706_867_744,
    files={"model.safetensors": "ab" * 32},
    sha256="ab" * 32,
)


def test_render():
    assert RECEIPT.render() == (
        "weights: base/model.safetensors (LeRobot)\n"
        "  loaded  2 tensors; 3,353,433,872 parameters read from 6.707 GB\n"
        "  tied    1\n"
        "    embedding.weight: lm_head.weight\n"
        "  fresh   0\n"
        "  ignored 1\n"
        "    expert.lm_head.weight: not used by π₀.₅\n"
        f"  sha256  {'ab' * 32}"
    )


def test_to_dict_is_plain_data():
    assert json.loads(json.dumps(RECEIPT.to_dict())) == {
        "source": "base/model.safetensors",
        "layout": "LeRobot",
        "loaded": ["a.weight", "b.weight"],
        "tied": {"embedding.weight": "lm_head.weight"},
        "fresh": {},
        "merged": {},
        "ignored": {"expert.lm_head.weight": "not used by π₀.₅"},
        "parameters": 3_353_433_872,
        "bytes": 6_706_867_744,
        "files": {"model.safetensors": "ab" * 32},
        "sha256": "ab" * 32,
        "revision": None,
        "notes": [],
    }
