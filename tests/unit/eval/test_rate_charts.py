from __future__ import annotations

from pi05.eval.rate_charts import rate_bars, rate_scale, share_bar
from pi05.eval.result import SuccessRate


def test_text_is_escaped() -> None:
    text = str(rate_bars([("<b>", SuccessRate(successes=1, trials=2))])) + str(share_bar([("<i>", 1.0)]))
    assert not any(tag in text for tag in ("<b>", "<i>"))


def test_shares_fill_the_bar_in_proportion() -> None:
    text = str(share_bar([("a", 3.0), ("b", 1.0)]))
    assert 'x="0.0" y="0" width="748.0"' in text
    assert 'x="750.0" y="0" width="248.0"' in text
    assert "<title>b: 25%</title>" in text
    assert "<rect" not in str(share_bar([]))


def test_bars_have_the_length_of_their_rate() -> None:
    text = str(rate_bars([("a", SuccessRate(successes=1, trials=4)), ("none", SuccessRate(successes=0, trials=0))]))
    assert 'class="bar" x="330" y="11.0" width="100.0"' in text
    assert "1/4 · 25%" in text
    assert "no episode counts" in text
    assert 'class="goal" x1="680.8"' in str(rate_scale(SuccessRate(successes=1, trials=4), 0.9))
