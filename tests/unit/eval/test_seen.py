from __future__ import annotations

import base64
import io
from pathlib import Path

import fakes
import numpy as np
from fake_policies import make_policy
from PIL import Image

from pi05.eval.episode import EpisodePlan
from pi05.eval.seen import note_seen, read_seen, to_bytes
from pi05.sim.tabletop import Tabletop


def test_pictures_and_prompt_are_those_of_the_network_s_inputs(tmp_path: Path) -> None:
    processor = make_policy(fakes.write_tokenizer(tmp_path / "tokenizer.json")).processor
    table = Tabletop("demo")
    table.reset(5)
    observation = table.observe()
    for index in (1, 0, 2, 11):
        note_seen(tmp_path, processor, EpisodePlan(index=index, seed=5, task=f"t{index}"), observation, tasks=2)
    first, second = read_seen(tmp_path)
    assert (first["task"], second["task"]) == ("t0", "t1")
    assert table.instruction in first["prompt"]
    assert "State:" in first["prompt"]
    assert list(first["pictures"]) == ["scene", "left_wrist"]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(first["pictures"]["left_wrist"].split(",")[1]))))
    np.testing.assert_array_equal(shown, processor.encode(observation).images[1])


def test_floats_come_back_as_bytes() -> None:
    pictures = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    np.testing.assert_array_equal(to_bytes((pictures / 127.5 - 1).astype(np.float32)), pictures)
    assert to_bytes(pictures) is pictures
