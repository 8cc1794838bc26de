from __future__ import annotations

import numpy as np
import pytest
from serving import CONTRACT

from pi05.errors import Refused
from pi05.serve import session as module
from pi05.serve.dialects import Ask
from pi05.serve.session import Allowance, KeptChunk, Session


def test_an_allowance_holds_one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    allowance = Allowance(4.0)
    assert [allowance.spend() for _ in range(5)] == [True] * 4 + [False]
    now += 0.25
    assert [allowance.spend() for _ in range(2)] == [True, False]
    now += 1000
    assert sum(allowance.spend() for _ in range(10)) == 4


def kept() -> Session:
    one = Session(allowance=Allowance(1.0))
    one.begin(Ask(what="infer", session_id="a", step=5))
    one.kept = KeptChunk(actions=np.arange(70, dtype=np.float32).reshape(10, 7))
    return one


@pytest.mark.parametrize(
    ("ask", "forgets"),
    [
        (Ask(what="infer", step=6), False),
        (Ask(what="infer", session_id="a"), False),
        (Ask(what="nothing"), False),
        (Ask(what="ping"), False),
        (Ask(what="infer", session_id="b", step=0), True),
        (Ask(what="reset"), True),
        (Ask(what="nothing", starts_episode=True), True),
        (Ask(what="infer", starts_episode=True, step=1), True),
    ],
)
def test_what_forgets_an_episode(ask: Ask, forgets: bool) -> None:
    one = kept()
    one.begin(ask)
    assert (one.kept is None) == forgets


def test_an_older_step_is_refused_within_an_episode() -> None:
    one = kept()
    one.begin(Ask(what="infer", step=5))
    with pytest.raises(Refused, match="older"):
        one.begin(Ask(what="infer", step=4))
    one.begin(Ask(what="reset"))
    one.begin(Ask(what="infer", step=0))


def test_a_kept_chunk_is_handed_out_as_far_as_it_is_planned() -> None:
    one = kept()
    firsts = [action[0] for _ in range(5) if (action := one.next_kept_action(CONTRACT)) is not None]
    assert firsts == [0, 7, 14]  # n_action_steps is 3
