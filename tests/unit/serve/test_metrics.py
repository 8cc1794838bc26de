from __future__ import annotations

import re

from pi05.serve.metrics import Metrics


def test_the_text_is_what_prometheus_reads() -> None:
    metrics = Metrics(connected=2)
    metrics.answered["openpi"] += 3
    metrics.refused["late"] += 1
    for size, seconds in ((1, 0.004), (2, 0.01), (8, 99.0)):
        metrics.batch(size, seconds)
    text = metrics.render(waiting=5, ready=True)
    line = re.compile(r'(# (HELP|TYPE) pi05_\w+ .+|pi05_\w+(\{\w+="[^"]*"\})? [0-9.e+-]+)')
    assert all(line.fullmatch(one) for one in text.splitlines())
    names = re.findall(r"# TYPE (\w+)", text)
    assert len(names) == len(set(names))
    for wanted in (
        "pi05_ready 1",
        "pi05_waiting_questions 5",
        'pi05_answers_total{client="openpi"} 3',
        'pi05_network_seconds_bucket{le="0.005"} 1',
        'pi05_network_seconds_bucket{le="0.01"} 2',  # a limit holds what is equal to it
        'pi05_network_seconds_bucket{le="+Inf"} 3',
        "pi05_batch_size_sum 11.000000",
        "pi05_batch_size_count 3",
    ):
        assert wanted in text.splitlines()
