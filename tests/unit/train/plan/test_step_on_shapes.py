"""The predicted memory of a step against what the same step on real CPU tensors takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from pi05.model.config import ModelConfig, tiny
from pi05.model.flow import reduce_loss
from pi05.model.layers import Linear
from pi05.model.lora import add_lora
from pi05.model.pi05 import Pi05
from pi05.train.activations import apply_from_outside, to_host
from pi05.train.cached_prefix import stack_prefix
from pi05.train.config import EmaConfig, TrainConfig
from pi05.train.lora import freeze_base, plan_lora
from pi05.train.optim.adamw import AdamSettings, AdamW, Schedule
from pi05.train.parameters import freeze
from pi05.train.plan.counted_on import CountedOn
from pi05.train.plan.live_memory import BLOCK, LiveStorage, fused_kernels
from pi05.train.plan.step_on_shapes import (
    Shapes,
    StepMemory,
    _away,
    build_on_meta,
    least_held_bytes,
    measure_step,
    pinned_bytes,
)
from pi05.train.policy_config import PolicyConfig
from pi05.types import Batch

SHAPES = Shapes(batch=4, cameras=2, prompt_tokens=16)
CACHED = {"train_expert_only": True, "augment": False, "cache_prefix": True}
FEW_PERCENT = 0.05
"""Attention keeps a little more on a CPU, and the float32 sums of its backward pass are only on a GPU."""
SCHEDULE = Schedule(peak=1e-3, warmup_steps=0, decay_steps=10, end=1e-4)


def settings(**changes: object) -> TrainConfig:
    policy = {name: changes.pop(name) for name in ("use_peft", "train_expert_only") if name in changes}
    return TrainConfig(precision="float32", policy=PolicyConfig(**policy), **changes)  # type: ignore[arg-type]


def measure(config: TrainConfig, shapes: Shapes = SHAPES, sizes: ModelConfig | None = None) -> StepMemory:
    return measure_step(config, sizes or tiny(), shapes)


def part(config: TrainConfig, name: str, shapes: Shapes = SHAPES) -> int:
    return measure(config, shapes).at_peak.get(name, 0)


def rounded(tensors: object) -> int:
    return sum(-(-tensor.nbytes // BLOCK) * BLOCK for tensor in tensors)  # type: ignore[attr-defined]


def batch(shapes: Shapes, sizes: ModelConfig, cached: bool = False) -> Batch:
    side = sizes.image_size
    length = shapes.cameras * sizes.patches_per_image + shapes.prompt_tokens
    return Batch(
        images=torch.zeros(shapes.batch, 0 if cached else shapes.cameras, side, side, 3, dtype=torch.uint8),
        image_mask=None,
        tokens=torch.ones(shapes.batch, shapes.prompt_tokens, dtype=torch.int64),
        token_mask=torch.ones(shapes.batch, shapes.prompt_tokens, dtype=torch.bool),
        actions=torch.zeros(shapes.batch, sizes.horizon, sizes.action_dim),
        action_mask=torch.ones(shapes.batch, sizes.horizon, dtype=torch.bool),
        trimmed=True,
        prefix=torch.zeros(shapes.batch, sizes.depth, 2, sizes.num_kv_heads, length, sizes.head_dim)
        if cached
        else None,
    )


class RealStep:
    """A step on the CPU: its network, and what it leaves."""

    def __init__(self, config: TrainConfig) -> None:
        self.cached = config.cache_prefix
        self.model = Pi05(tiny())
        if config.uses_adapters:
            plan = plan_lora(config, self.model)
            add_lora(self.model, plan.specs)
            self.parameters = freeze_base(self.model, plan)
        else:
            self.parameters = freeze(self.model, config.part)
        apply_from_outside(self.model, compile_layers=False, recompute_activations=config.recomputed)
        self.optimizer = AdamW(self.parameters, AdamSettings(), SCHEDULE)

    def forward(self) -> Tensor:
        inputs = batch(SHAPES, tiny(), self.cached)
        losses = self.model.loss(inputs, generator=torch.Generator().manual_seed(0))
        total, count = reduce_loss(losses, inputs.action_mask, tiny().action_dim, "masked")
        return total / count

    def saved(self) -> int:
        """Return the bytes of what the forward pass keeps, each storage once, without parameters."""
        storages: dict[int, int] = {}
        kept: list[Tensor] = []
        own = {value.untyped_storage().data_ptr() for value in self.model.parameters()}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                storages[storage.data_ptr()] = -(-storage.nbytes() // BLOCK) * BLOCK
                kept.append(tensor)
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self.forward()
        assert loss.isfinite()
        assert kept
        return sum(storages.values())


@pytest.mark.parametrize(
    "changes",
    [{}, {"train_expert_only": True}, CACHED, {"use_peft": True}],
    ids=["full", "expert", "cached", "lora"],
)
def test_weights_gradients_and_moments_are_those_of_a_real_step(changes: dict[str, bool]) -> None:
    config = settings(activation_checkpointing="full", **changes)
    predicted, real = measure(config), RealStep(config)
    real.forward().backward()
    real.optimizer.apply(0)
    assert predicted.at_peak["weights"] == rounded(real.model.parameters())
    assert predicted.at_peak["optimizer"] == rounded(real.optimizer.tensors().values())
    assert predicted.trained == sum(value.numel() for value in real.parameters.values())
    gradients = rounded(value.grad for value in real.parameters.values() if value.grad is not None)
    assert 0 < predicted.at_peak["gradients"] <= gradients


@pytest.mark.parametrize("changes", [{}, {"train_expert_only": True}, CACHED], ids=["full", "expert", "cached"])
def test_what_the_forward_pass_keeps_is_what_it_keeps_on_a_cpu(changes: dict[str, bool]) -> None:
    config = settings(**changes)
    real = RealStep(config).saved()
    with torch.device("meta"):
        model = Pi05(tiny())
        inputs = batch(SHAPES, tiny(), config.cache_prefix)
        noise, time = torch.empty(4, tiny().horizon, tiny().action_dim), torch.empty(4)
    freeze(model, config.part)
    tracker = LiveStorage()
    tracker.adopt(model.parameters(), "weights")
    given = [inputs.images, inputs.tokens, inputs.token_mask, inputs.actions, inputs.action_mask, noise, time]
    given.append(inputs.prefix)
    tracker.adopt([each for each in given if each is not None], "batch")
    with tracker, fused_kernels(norm=False):
        loss = reduce_loss(model.loss(inputs, noise=noise, time=time), None, tiny().action_dim, "masked")[0]
    kept = tracker.live["activations"]
    assert kept == pytest.approx(real, rel=FEW_PERCENT)
    assert loss.device.type == "meta"


@pytest.mark.parametrize("size", [4, 32])
def test_the_peak_with_a_cached_prefix_is_that_of_computing_it_or_of_a_step(size: int) -> None:
    shapes = replace(SHAPES, batch=size)
    predicted = measure(settings(**CACHED), shapes).at_peak
    without = measure(settings(train_expert_only=True), shapes).at_peak
    model, tracker = Pi05(tiny()), LiveStorage(device="cpu")
    parameters = freeze(model, "expert")
    tracker.adopt(model.parameters(), "weights")
    with tracker:
        moments = [torch.empty_like(value) for value in parameters.values() for _ in range(2)]
        with torch.no_grad():
            stack_prefix(model.read_prefix(batch(shapes, tiny()))[0])
        given = batch(shapes, tiny(), cached=True)
        reduce_loss(model.loss(given), given.action_mask, tiny().action_dim, "masked")[0].backward()
    del moments
    assert sum(predicted.values()) == pytest.approx(tracker.peak, rel=FEW_PERCENT)
    assert sum(predicted.values()) < 1.02 * sum(without.values())


def test_activations_grow_with_the_batch_and_nothing_else_does() -> None:
    small, medium, large = (measure(settings(), replace(SHAPES, batch=size)).at_peak for size in (2, 4, 6))
    growth = medium["activations"] - small["activations"]
    assert large["activations"] - medium["activations"] == pytest.approx(growth, rel=0.01)
    assert small["weights"] == large["weights"]
    assert small["optimizer"] == large["optimizer"]


@pytest.mark.slow
def test_recomputation_and_host_memory_take_activations_away() -> None:
    big = replace(SHAPES, batch=16)
    kept, selective, full, away = (
        measure(settings(activation_checkpointing=degree, activation_offload=offload), big)
        for degree, offload in (("none", False), ("selective", False), ("full", False), ("full", True))
    )
    peaks = [sum(each.at_peak.values()) for each in (kept, selective, full, away)]
    assert peaks == sorted(peaks, reverse=True)
    assert len(set(peaks)) == 4
    assert away.host > 0
    assert full.host == 0
    twice = measure(
        settings(activation_checkpointing="full", activation_offload=True, gradient_accumulation_steps=2), big
    )
    assert twice.host == away.host, "those of a pass are back before the next"
    assert twice.to_host == 2 * away.to_host
    assert away.to_host <= away.host < 2 * away.to_host


def test_lora_has_no_gradients_and_moments_for_the_base() -> None:
    full, lora = measure(settings()), measure(settings(use_peft=True))
    assert lora.at_peak["optimizer"] < 0.35 * full.at_peak["optimizer"]
    assert lora.trained < 0.35 * full.trained
    assert lora.at_peak.get("gradients", 0) <= 4 * lora.trained + BLOCK * 500


@pytest.mark.parametrize("release", [False, True])
def test_moments_from_host_memory_pass_through_the_device(release: bool) -> None:
    """With release they do so in the backward pass, where most is alive. Operation by operation, which decides here."""
    one = replace(SHAPES, batch=1)
    here, away = (
        measure_step(
            settings(
                optimizer_state="8bit",
                gradient_release=release,
                activation_checkpointing="full",
                optimizer_offload=offload,
            ),
            tiny(),
            one,
            kernels=CountedOn(packed=False, update="plain"),
        )
        for offload in (False, True)
    )
    largest = max(value.numel() for value in build_on_meta(settings(), tiny())[0].parameters())
    assert away.at_peak["workspace"] - here.at_peak["workspace"] == pytest.approx(8 * largest, rel=0.01)


def test_a_plan_moves_the_activations_that_a_run_moves() -> None:
    """Parts of other tensors, and the same row over and over, stay on the device in both."""
    scale = nn.Parameter(torch.ones(4))
    whole, row, part = torch.ones(3, 4), torch.ones(4).expand(3, 4), torch.ones(3, 8)[:, :4]
    for tensor in (whole, row, part):
        planned: list[int] = []
        _away(lambda given: scale * given, planned, tensor)
        in_a_run = [] if to_host(tensor)[1] is tensor else [tensor.nbytes]
        assert planned == in_a_run == ([whole.nbytes] if tensor is whole else [])


def test_what_is_held_counts_the_average() -> None:
    without, averaged = (least_held_bytes(settings(ema=EmaConfig(enable=enable)), tiny()) for enable in (False, True))
    trained = measure(settings()).trained
    assert averaged - without == pytest.approx(4 * trained, rel=1e-6)


def test_smaller_moments_and_released_gradients() -> None:
    full = measure(settings())
    packed = measure(settings(optimizer_state="8bit"))
    assert packed.at_peak["optimizer"] < 0.5 * full.at_peak["optimizer"]
    away = measure(settings(optimizer_offload=True))
    assert away.at_peak.get("optimizer", 0) == 0
    assert away.to_host == full.at_peak["optimizer"] - BLOCK * moving_parameters()  # without the counters of steps
    assert away.to_host < away.host < 2 * away.to_host, "blocks of page-locked memory are powers of two"
    assert sum(away.at_peak.values()) < sum(full.at_peak.values()) - 0.5 * away.host
    released = measure(settings(gradient_release=True, activation_checkpointing="full"))
    waiting = measure(settings(optimizer_offload=False, activation_checkpointing="full"))
    assert released.at_peak.get("gradients", 0) < 0.5 * waiting.at_peak["gradients"]


def test_what_the_update_moves_and_the_largest_layer() -> None:
    """AdamW reads a weight, its gradient and two moments, and writes all but the gradient: 7 times 4 bytes."""
    model = Pi05(tiny())
    values = sum(value.numel() for name, value in model.named_parameters() if not is_unread(name))
    here, away = measure(settings()), measure(settings(optimizer_offload=True))
    assert here.moved == pytest.approx(28 * values, rel=FEW_PERCENT)
    assert away.moved == pytest.approx(12 * values, rel=FEW_PERCENT)
    layers = (*model.vision.blocks, *model.language.layers, *model.expert.layers, model.embedding)
    assert here.largest_unit == max(sum(value.nbytes for value in layer.parameters()) for layer in layers)
    assert here.largest_unit > model.expert.layers[0].mlp.up.weight.nbytes


def test_matrices_are_gathered_in_the_precision_that_they_are_multiplied_in() -> None:
    """What the gathers of bfloat16 save is half of the layers' matrices, in the forward and the backward pass."""
    model = Pi05(tiny())
    towers = (model.vision.blocks, model.language.layers, model.expert.layers)
    maps = [module for tower in towers for module in tower.modules() if isinstance(module, Linear)]
    exact, mixed = (measure(TrainConfig(precision=each)) for each in ("float32", "mixed"))
    everything = sum(value.nbytes for value in model.parameters())
    assert exact.gathered_bytes == 2 * everything - model.embedding.weight.nbytes
    assert exact.gathered_bytes - mixed.gathered_bytes == sum(module.weight.nbytes for module in maps)
    assert exact.gradient_bytes == mixed.gradient_bytes
    small = replace(tiny(), vocab_size=8)
    layers = [measure(TrainConfig(precision=each), sizes=small).largest_unit for each in ("float32", "mixed")]
    assert layers[1] < 0.51 * layers[0], "where a layer is the largest"


@pytest.mark.parametrize(("size", "taken"), [(0, 0), (1, 1), (512, 512), (513, 1024), (3 * 2**30, 2**32)])
def test_page_locked_memory_comes_in_powers_of_two(size: int, taken: int) -> None:
    assert pinned_bytes(size) == taken


def test_buckets_of_ddp_stand_at_every_moment() -> None:
    """Where activations decide, gradients come on top; where gradients decide, they are the same."""
    values = sum(value.numel() for name, value in Pi05(tiny()).named_parameters() if not is_unread(name))
    for batch in (1, 64):
        config, shapes = settings(batch_size=batch), replace(SHAPES, batch=batch)
        alone, buckets = (measure_step(config, tiny(), shapes, each) for each in (False, True))
        assert buckets.at_peak["gradients"] == pytest.approx(4 * values, rel=FEW_PERCENT)
        others = {name: size for name, size in alone.at_peak.items() if name != "gradients"}
        assert sum(buckets.at_peak.values()) >= max(sum(alone.at_peak.values()), sum(others.values()) + 4 * values)
    assert alone.at_peak.get("gradients", 0) < 0.2 * buckets.at_peak["gradients"], "activations decide at batch 64"


def moving_parameters() -> int:
    return sum(not is_unread(name) for name, _ in Pi05(tiny()).named_parameters())


def is_unread(name: str) -> bool:
    last = f"language.layers.{tiny().depth - 1}."
    read = ("attention_norm.scale", "attention.key.weight", "attention.value.weight")
    return name == "language.norm.scale" or (name.startswith(last) and not name.endswith(read))


def test_the_average_costs_one_more_copy_and_accumulation_one_pass_of_gradients() -> None:
    config = settings(ema=EmaConfig(enable=True))
    unread = sum(
        -(-4 * value.numel() // BLOCK) * BLOCK for name, value in Pi05(tiny()).named_parameters() if is_unread(name)
    )
    assert part(config, "average") == part(config, "weights") - unread
    once = sum(measure(settings(batch_size=4)).at_peak.values())
    twice = sum(measure(settings(batch_size=4, gradient_accumulation_steps=3)).at_peak.values())
    assert twice > once


def test_what_is_held_is_never_more_than_the_peak() -> None:
    for config in (settings(), settings(use_peft=True), settings(optimizer_state="4bit", ema=EmaConfig(enable=True))):
        assert least_held_bytes(config, tiny()) < sum(measure(config).at_peak.values())
