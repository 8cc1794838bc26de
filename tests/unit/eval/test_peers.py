from __future__ import annotations

import pytest

from pi05.eval.peers import PUBLISHED


def test_published_means_are_those_of_their_readmes() -> None:
    """96.85 and 97.5: a digit that was copied wrongly would show here."""
    means = {peer.who: sum(peer.percent.values()) / len(peer.percent) for peer in PUBLISHED}
    assert means == {"openpi": pytest.approx(96.85), "lerobot": pytest.approx(97.5)}


def test_rates_come_with_the_interval_of_their_number_of_episodes() -> None:
    openpi, lerobot = PUBLISHED
    rate = lerobot.rate("libero_spatial")
    assert rate is not None
    assert (rate.successes, rate.trials) == (97, 100)
    assert rate.interval == pytest.approx((0.9155, 0.9897), abs=2e-4)
    assert openpi.rate("libero_90") is None
