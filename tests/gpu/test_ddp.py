"""On a GPU: a step under DDP is the step without it, and waits for nothing; one process is enough for that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from small_network import SETTINGS, make_batch, make_model, make_state

from pi05.train.parallel.ranks import Ranks
from pi05.train.parallel.split import Parallel, replicate
from pi05.train.parameters import freeze
from pi05.train.step import TrainState, train_step

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not dist.is_nccl_available(), reason="this PyTorch has no NCCL")]
ROUNDING = 1e-4
"""Relative; buckets change the order of nothing but the norm's sum."""


@pytest.fixture
def group() -> Iterator[None]:
    device = torch.device("cuda", 0)
    dist.init_process_group("cpu:gloo,cuda:nccl", store=dist.HashStore(), rank=0, world_size=1, device_id=device)
    yield
    dist.destroy_process_group()


def make_gpu_state(*, ddp: bool) -> TrainState:
    model = make_model().to("cuda")
    state = make_state(model, freeze(model, "full"))
    if ddp:
        ranks = Ranks(device=torch.device("cuda", 0))
        state.parallel = Parallel(ranks=ranks, kind="ddp", ddp=replicate(model))
    return state


@pytest.mark.usefixtures("group")
def test_ddp_is_the_run_without_it_and_waits_for_nothing() -> None:
    batches = [make_batch(4, seed=seed).pin_memory() for seed in range(4)]
    states = [make_gpu_state(ddp=ddp) for ddp in (False, True)]
    for index, batch in enumerate(batches):
        torch.cuda.set_sync_debug_mode("error" if index > 1 else "default")  # buckets are rebuilt after the first step
        try:
            results = [train_step(state, [batch.to("cuda", non_blocking=True)], SETTINGS) for state in states]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        alone, split = (float(result.loss) for result in results)
        assert split == pytest.approx(alone, rel=ROUNDING)
    assert states[1].parallel.ddp is not None
    assert not states[1].parallel.ddp.find_unused_parameters
    weights = [torch.cat([value.detach().flatten() for value in state.model.parameters()]) for state in states]
    assert float((weights[0] - weights[1]).norm() / weights[0].norm()) < ROUNDING
