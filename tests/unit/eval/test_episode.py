from __future__ import annotations

import json

from pi05.eval.episode import EpisodeResult


def test_an_episode_is_plain_data_and_comes_back() -> None:
    episode = EpisodeResult(
        index=3, seed=10, instruction="a", asked="b", outcome="failure", steps=7, swapped_success=True
    )
    plain = json.loads(json.dumps(episode.to_dict()))
    assert plain["swapped_success"] is True
    assert plain["error"] is None
    assert EpisodeResult(**plain) == episode
