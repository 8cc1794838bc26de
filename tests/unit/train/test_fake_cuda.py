"""Every kind of training step on CUDA tensors that have no values: nothing mixes devices, nothing waits for the GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from block_attention import EITHER
from fake_cuda import DEVICE, FakeCuda, WouldWait, choose_kernel, fake_cuda
from small_network import CONFIG, make_batch

from pi05.data.loader import BatchInfo
from pi05.model.config import pi05 as full_size
from pi05.model.packed_keys import Varlen
from pi05.train.activations import apply_from_outside
from pi05.train.config import EmaConfig, TrainConfig
from pi05.train.device.readback import Readback
from pi05.train.loop import loop
from pi05.train.lora_config import PeftConfig
from pi05.train.network import Network, trainable
from pi05.train.optim.adamw import Ema, Schedule
from pi05.train.optim.build import build_optimizer
from pi05.train.optim.low_memory import LowMemoryOptimizer
from pi05.train.parallel.placement import outline
from pi05.train.plan.work import WorkCount
from pi05.train.policy_config import PolicyConfig
from pi05.train.records.metrics import Meter
from pi05.train.records.sinks import Sinks
from pi05.train.resume import OpenRun
from pi05.train.session import Session, settle
from pi05.train.step import LossSettings, TrainState, train_step
from pi05.train.watchers.watch import Watch
from pi05.types import Batch

EXPECTED = (
    "FakeTensorDeviceMismatchError",
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "WouldWait",
)
SCHEDULE = Schedule(peak=1e-3, warmup_steps=0, decay_steps=10, end=1e-4)
LORA = {"policy": PolicyConfig(use_peft=True), "precision": "mixed"}
QUICK = ("full", "8bit release offload", "qlora nf4", "recomputed")
"""The other modes are slow."""
MODES: dict[str, dict[str, Any]] = {
    "full": {"precision": "mixed"},
    "accumulated": {"precision": "mixed", "gradient_accumulation_steps": 2},
    "float32": {"precision": "float32"},
    "average": {"precision": "mixed", "ema": EmaConfig(enable=True)},
    "bf16-sr": {"precision": "bf16-sr"},
    "bf16-sr average": {"precision": "bf16-sr", "ema": EmaConfig(enable=True)},
    "8bit": {"precision": "mixed", "optimizer_state": "8bit"},
    "4bit": {"precision": "bf16-sr", "optimizer_state": "4bit"},
    "offload": {"precision": "mixed", "optimizer_offload": True},
    "8bit compiled": {"precision": "bf16-sr", "optimizer_state": "8bit"},
    "8bit offload": {"precision": "bf16-sr", "optimizer_state": "8bit", "optimizer_offload": True},
    "release": {"precision": "bf16-sr", "gradient_release": True},
    "8bit release offload": {
        "precision": "bf16-sr",
        "gradient_release": True,
        "optimizer_state": "8bit",
        "optimizer_offload": True,
    },
    "selective": {"precision": "mixed", "activation_checkpointing": "selective"},
    "recomputed": {"precision": "mixed", "activation_checkpointing": "full"},
    "half recomputed": {"precision": "mixed", "activation_checkpointing": "0.5"},
    "activations in host memory": {
        "precision": "mixed",
        "activation_checkpointing": "full",
        "activation_offload": True,
    },
    "flow samples, openpi's loss": {"precision": "mixed", "flow_samples": 3, "loss": "openpi"},
    "expert, LeRobot's loss": {
        "precision": "mixed",
        "policy": PolicyConfig(train_expert_only=True),
        "loss": "lerobot",
    },
    "frozen vision": {"precision": "mixed", "policy": PolicyConfig(freeze_vision_encoder=True)},
    "lora": LORA,
    "dora": LORA | {"peft": PeftConfig(use_dora=True)},
    "lora dropout recomputed": LORA | {"peft": PeftConfig(lora_dropout=0.1), "activation_checkpointing": "full"},
    "lora selective": LORA | {"activation_checkpointing": "selective"},
    "qlora nf4": LORA | {"peft": PeftConfig(quantize="nf4")},
    "qlora int8": LORA | {"peft": PeftConfig(quantize="int8"), "activation_checkpointing": "full"},
}


def masked_batch(size: int = 3) -> Batch:
    """Return a batch of real tensors in which samples have different cameras and prompts of different lengths."""
    batch = make_batch(size)
    lengths = 1 + torch.arange(size)[:, None] * 7 % 8
    images = torch.ones(size, 2, dtype=torch.bool)
    images[0, 1] = False
    return replace(batch, image_mask=images, token_mask=torch.arange(8)[None] < lengths, trimmed=False).trim()


def make_fake_state(cuda: FakeCuda, config: TrainConfig, network: Network) -> TrainState:
    """Build what a run would hold on the GPU, as `loop.py` does, but without weights."""
    model = network.model
    cuda.module(model)
    parameters = trainable(network, config.part)
    dropout = config.draws_dropout
    apply_from_outside(
        model,
        compile_layers=False,
        recompute_activations=config.recomputed,
        offload_activations=config.activation_offload,
        dropout=dropout,
    )
    return TrainState(
        step=0,
        seed=5,
        model=model,
        optimizer=build_optimizer(config, parameters, SCHEDULE, DEVICE),
        ema=Ema(parameters, config.ema.decay) if config.ema.enable else None,
        dropout=dropout,
    )


def take_steps(cuda: FakeCuda, config: TrainConfig, network: Network, batches: list[Batch]) -> TrainState:
    state = make_fake_state(cuda, config, network)
    settings = LossSettings(kind=config.loss, robot_action_dim=4, flow_samples=config.flow_samples)
    # The first step makes tables of codes, once and for all, or only measures: it may wait.
    starts = isinstance(state.optimizer, LowMemoryOptimizer) or config.peft.quantize == "nf4"
    for index in range(1 + starts):
        with nullcontext() if starts and index == 0 else cuda.watch():
            result = train_step(state, [cuda.batch(batch) for batch in batches], settings)
        assert {result.loss.device, result.grad_norm.device, result.sample_losses.device} == {DEVICE}
    return state


@pytest.mark.parametrize(
    "mode", [pytest.param(mode, marks=() if mode in QUICK else pytest.mark.slow) for mode in MODES]
)
def test_a_step_on_cuda(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pi05.train.optim.low_memory.SMALLEST", 300)  # a few of the small matrices are packed
    # Whether both updates lead to the same weights cannot be asked of tensors without values.
    why = None if "compiled" in mode else "not asked for"
    monkeypatch.setattr("pi05.train.optim.build.why_no_triton", lambda: None)
    monkeypatch.setattr("pi05.train.optim.build.why_not_compiled", lambda *_: why)
    monkeypatch.setattr("pi05.train.optim.build.why_no_kernel", lambda *_: "no code for tensors without values")
    config = TrainConfig(**MODES[mode])
    batches = [masked_batch(3 - index) for index in range(config.gradient_accumulation_steps)]
    network = outline(config, CONFIG)
    with fake_cuda() as cuda:
        state = take_steps(cuda, config, network, batches)
        assert state.step > 0
        assert (getattr(state.optimizer, "way", "plain") == "compiled") == ("compiled" in mode)
        assert {parameter.device for parameter in state.model.parameters()} == {DEVICE}


def test_what_computes_in_which_precision_at_full_size() -> None:
    """The towers' products and attention are bfloat16; norms, rotation, the flow, the loss and the update float32.

    What stays float32 by products are the ends: the first map of the pixels, actions and time, 0.1 % of the work.
    """
    config, sizes = TrainConfig(precision="mixed"), replace(full_size(), depth=2, vision_depth=2, horizon=10)
    batch = Batch(
        images=torch.zeros(2, 2, 224, 224, 3, dtype=torch.uint8),
        image_mask=None,
        tokens=torch.zeros(2, 64, dtype=torch.int64),
        token_mask=torch.arange(64) < torch.tensor([[64], [57]]),
        actions=torch.zeros(2, 10, 32),
        action_mask=torch.ones(2, 10, dtype=torch.bool),
    ).trim()
    network = outline(config, sizes)
    with fake_cuda((8, 9)) as cuda:
        take_steps(cuda, config, network, [batch])
    assert cuda.kernels == {"flash": 2, "efficient": 3}  # vision; language (not the last) and expert
    work: dict[torch.dtype, float] = {torch.bfloat16: 0.0, torch.float32: 0.0}
    for operation in cuda.operations:
        name = operation.name.removeprefix("aten.").split(".")[0]
        if name in ("mm", "addmm", "bmm"):
            (kind,) = set(operation.inputs + operation.outputs)
            work[kind] += torch.Size(operation.shapes[-1]).numel() * operation.shapes[-2 if name != "mm" else 0][-1]
        elif name.startswith("_scaled_dot_product"):
            assert set(operation.inputs[:3]) == {torch.bfloat16}
        elif name.startswith(("_fused_rms_norm", "native_layer_norm", "_fused_adamw", "_foreach", "sin", "cos", "pow")):
            assert set(operation.inputs) <= {torch.float32, torch.float64}, name
    assert 0 < work[torch.float32] < 0.03 * work[torch.bfloat16]
    assert cuda.operations[-1].outputs == (torch.float32,)


class EndlessLoader:
    """In the place of a `TrainLoader`: the same batch again and again, in page-locked memory."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[tuple[Batch, BatchInfo]]:
        indices = np.arange(3)
        while True:
            yield self.batch, BatchInfo(frame_indices=indices, episodes=indices, epoch=0)

    def state_dict(self) -> dict[str, int]:
        return {"position": 0}


@dataclass
class StopAfter:
    """Ends a loop after some steps, with nothing left to save."""

    session: Session
    steps: int

    def agreed(self, any_process: Callable[[bool], bool]) -> bool:
        if self.session.state.step < self.steps:
            return False
        self.session.last_saved = self.session.state.step
        return any_process(True)


def make_session(state: TrainState, config: TrainConfig) -> Session:
    """Return what the loop needs for steps that neither log nor validate nor save."""
    unused: Any = None
    data: Any = SimpleNamespace(
        processor=SimpleNamespace(robot_action_dim=4, normalization={"ACTION": "QUANTILES"}),
        dataset=SimpleNamespace(action_names=["x"]),
    )
    run = OpenRun(root=Path("nowhere"), folder=Path("nowhere"))
    state.parallel.ranks.device = DEVICE
    return Session(
        config=config,
        run=run,
        device=DEVICE,
        sizes=CONFIG,
        data=data,
        state=state,
        base=None,
        lora=None,
        chosen=state.optimizer.parameters,
        frozen_precision="float32",
        work=WorkCount(sizes=CONFIG, part="full"),
        prefixes=None,
        sinks=Sinks([]),
        tell=lambda text: None,
        meter=Meter(total_steps=9, train_frames=9, first_step=0, samples=0, clock=time.perf_counter),
        validator=unused,
        watch=Watch(config, data, state, run, lambda _: None),
    )


def test_no_step_of_the_whole_loop_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """From batch to batch: dealing, the step, all that is watched, and the look at the losses of the step before."""
    config = TrainConfig(**MODES["full"], steps=9, log_freq=3, save_freq=9)
    network, batch = outline(config, CONFIG), masked_batch()
    # What may wait: before the first step checksums and the probe of attention, and every record.
    watched: Any = SimpleNamespace(require_unmoved=None)
    monkeypatch.setattr("pi05.train.watchers.watch.FrozenWatch", lambda *_: watched)
    settled, logged = list[int](), list[int]()
    monkeypatch.setattr("pi05.train.loop.settle_attention", lambda session, _: settled.append(session.state.step))
    monkeypatch.setattr("pi05.train.loop.log", lambda session: logged.append(session.state.step))
    with fake_cuda() as cuda:
        session = make_session(make_fake_state(cuda, config, network), config)
        loader = EndlessLoader(cuda.pinned(batch))
        monkeypatch.setattr("pi05.train.loop.open_loader", lambda _: loader)
        with cuda.watch():
            assert loop(session, StopAfter(session, 4))  # type: ignore[arg-type]
        assert session.state.step == 4
        assert (settled, logged) == ([0], [3])
        assert session.watch._weights._pair is not None, "a sample of the weights was taken around step 3"
        assert len(session.unchecked) == 1, "the last step alone is not checked yet"
        with pytest.raises(WouldWait, match="an event with"), cuda.watch():
            settle(session)


@pytest.mark.parametrize("mode", ["full", "qlora int8"])
def test_actions_are_sampled_on_cuda(mode: str) -> None:
    config, batch = TrainConfig(**MODES[mode]), masked_batch()
    network = outline(config, CONFIG)
    with fake_cuda() as cuda:
        state = make_fake_state(cuda, config, network)
        with cuda.watch():
            actions = state.model.sample_actions(cuda.batch(batch))
    assert actions.device == DEVICE
    assert actions.dtype == torch.float32


@pytest.mark.parametrize("varlen", EITHER.values(), ids=EITHER)
def test_a_step_with_packed_keys_waits_for_nothing(varlen: Varlen) -> None:
    config = TrainConfig(precision="mixed", flow_samples=2)
    network, batch = outline(config, CONFIG), masked_batch(3)
    network.model.varlen = varlen
    with fake_cuda() as cuda:
        take_steps(cuda, config, network, [batch])
    assert cuda.kernels.total() == CONFIG.vision_depth, "only the images' attention is PyTorch's choice"


def test_the_fake_gpu_sees_faults() -> None:
    """The tests above can fail: each of these would fail, or wait, on a GPU."""
    network, batch = outline(TrainConfig(**MODES["full"]), CONFIG), masked_batch()
    with fake_cuda() as cuda:
        one, other, flags = torch.ones(4, device=DEVICE), torch.ones(4), torch.ones(4, device=DEVICE) > 0
        rows, images, model = torch.arange(2), cuda.batch(batch), cuda.module(network.model)
        ways: dict[str, Callable[[], object]] = {
            "both devices": lambda: one + other,
            "a value": lambda: one.sum().item(),
            "a decision": lambda: bool(one.sum() > 0),
            "a shape from values": lambda: one[flags],
            "places": lambda: flags.nonzero(),
            "a selection": lambda: one.masked_select(flags),
            "a list": lambda: one.tolist(),
            "images by a mask": lambda: model.loss(replace(images, image_rows=None)),
            "a copy to the device": lambda: other.to(DEVICE),
            "a copy from the device": lambda: one.cpu(),
            "an index on the CPU": lambda: one[rows],
            "numbers": lambda: torch.tensor([1.0, 2.0], device=DEVICE),
            "a number": lambda: one.new_tensor(3.0),
            "numbers that were sent for just now": lambda: Readback(one).read(),
            "numbers that may not be there": lambda: Readback(one)._numbers.tolist(),
        }
        for name, way in ways.items():
            with pytest.raises(Exception) as raised, cuda.watch():
                way()
            assert type(raised.value).__name__ in EXPECTED, name
        with cuda.watch():
            assert other.to(DEVICE, non_blocking=True).device == DEVICE
    real = torch.ones(3, requires_grad=True)
    real.sum().backward()  # the block has left nothing behind
    assert real.grad is not None
    if torch.version.cuda is None:
        with pytest.raises((RuntimeError, AssertionError)):
            torch.ones(1, device=DEVICE)


@pytest.mark.parametrize(
    ("capability", "shape", "masked", "kernel"),
    [
        ((9, 0), (2, 1, 4608, 256), True, "cudnn"),
        ((9, 0), (2, 1, 4608, 256), False, "cudnn"),
        ((10, 0), (2, 1, 4608, 256), False, "flash"),
        ((10, 0), (2, 1, 4608, 256), True, "efficient"),
        ((10, 0), (2, 16, 256, 72), False, "cudnn"),
        ((8, 9), (2, 1, 4608, 256), False, "flash"),
        ((8, 9), (2, 16, 256, 72), False, "flash"),
        ((12, 0), (2, 16, 256, 72), False, "flash"),
        ((8, 9), (2, 1, 64, 200), False, "efficient"),
    ],
)
def test_kernels_are_chosen_as_pytorch_does(
    capability: tuple[int, int], shape: tuple[int, ...], masked: bool, kernel: str
) -> None:
    query = torch.empty(shape, dtype=torch.bfloat16, requires_grad=True)
    mask = torch.ones(2, 1, 1, shape[2], dtype=torch.bool) if masked else None
    assert choose_kernel(capability, query, query, query, mask) == kernel
    without = choose_kernel(capability, query, query, query, mask, cudnn=None)
    assert without == (kernel if kernel != "cudnn" else "efficient" if masked else "flash")


def test_attention_that_would_build_all_scores_is_an_error() -> None:
    query = torch.empty(2, 8, 16, 256, dtype=torch.bfloat16, requires_grad=True)
    with pytest.raises(AssertionError, match="matrix of scores"):
        choose_kernel((9, 0), query, query[:, :1], query[:, :1], None)  # heads differ
    odd = torch.empty(2, 8, 16, 9, dtype=torch.bfloat16)
    with pytest.raises(AssertionError, match="matrix of scores"):
        choose_kernel((9, 0), odd, odd, odd, torch.ones(2, 1, 1, 16, dtype=torch.bool))
