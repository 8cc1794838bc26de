"""On a GPU: the probe finds a right kernel for every tower of full size, and says which."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pi05.model.config import pi05
from pi05.train.device.attention_cases import StepLengths, cases_of
from pi05.train.device.attention_probe import SWITCHES, probe_attention
from pi05.train.device.kernels import expected_kernel

pytestmark = pytest.mark.gpu
DEVICE = torch.device("cuda")


@pytest.fixture(autouse=True)
def _kernels_stay_on() -> Iterator[None]:
    yield
    for switch in SWITCHES.values():
        switch(True)


@pytest.mark.parametrize("prompts", [(50, 64), (50, 72), (64, 64)], ids=["576 keys", "584 keys", "no mask"])
def test_every_tower_has_a_right_and_fast_kernel(prompts: tuple[int, int]) -> None:
    """576 keys are 64 modulo 128, for which cuDNN's gradients have been NaN."""
    bucket = 1 if prompts[0] == prompts[1] else 8
    lengths = StepLengths(batch=8, cameras=2, shortest=prompts[0], longest=prompts[1], bucket=bucket)
    probe = probe_attention(cases_of(pi05(), lengths), DEVICE, torch.bfloat16)
    print(probe.line(), *probe.switched_off, sep="\n")
    assert {each.case.tower for each in probe.cases} == {"vision", "language", "expert"}
    assert all(each.kernel != "math" for each in probe.cases)


def test_the_planner_knows_what_pytorch_chooses() -> None:
    lengths = StepLengths(batch=8, cameras=2, shortest=50, longest=64, bucket=8)
    probe = probe_attention(cases_of(pi05(), lengths), DEVICE, torch.bfloat16)
    if probe.switched_off:
        pytest.skip(f"not PyTorch's own choice: {probe.switched_off}")
    capability = torch.cuda.get_device_capability()
    for each in probe.cases:
        wanted = expected_kernel(
            capability, head_dim=each.case.head_dim, masked=each.case.masked, cudnn=torch.backends.cudnn.version()
        )
        assert each.kernel == wanted, each.case.told
