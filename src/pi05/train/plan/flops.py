"""Work of a training step in floating-point operations, from sizes alone: what is really done.

A product of [m, k] and [k, n] is 2·m·k·n. The backward pass does it once for the gradient of the input and once for
that of the weight, each only where somebody wants it: a frozen prefix has no backward pass at all. Attention is two
products forward and four backward. Norms, GELU, sums and the optimizer are left out, as usual; they are below a
hundredth at full size. Recomputation is work too, but not useful: it counts only where it is asked for. Torch-free.
"""

from __future__ import annotations

from dataclasses import dataclass

from pi05.model.config import ModelConfig
from pi05.train.method import Part
from pi05.train.plan.gpus import GPUS, Gpu

DEVICE_NAMES = {
    "NVIDIA GeForce RTX 3090": "rtx3090",
    "NVIDIA GeForce RTX 4090": "rtx4090",
    "NVIDIA GeForce RTX 5090": "rtx5090",
    "NVIDIA A100-SXM4-40GB": "a100-40",
    "NVIDIA A100-PCIE-40GB": "a100-40",
    "NVIDIA A100-SXM4-80GB": "a100-80",
    "NVIDIA A100 80GB PCIe": "a100-80",
    "NVIDIA L40S": "l40s",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H200": "h200",
    "NVIDIA B200": "b200",
}
"""Names that the driver gives; the PCIe forms of H100 are slower and not in the table."""


@dataclass(frozen=True)
class Work:
    """Operations of one pass."""

    forward: float = 0.0
    backward: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.forward + other.forward, self.backward + other.backward)

    def __mul__(self, times: float) -> Work:
        return Work(self.forward * times, self.backward * times)


@dataclass(frozen=True)
class Training:
    """What of a linear map the backward pass computes, and the rank of its adapter."""

    weights: bool
    inputs: bool = True
    rank: int = 0

    @property
    def graph(self) -> bool:
        """Whether there is a backward pass through the map."""
        return self.weights or self.inputs or self.rank > 0


def flops_per_sample(
    sizes: ModelConfig,
    *,
    cameras: int,
    prompt_tokens: int,
    part: Part,
    lora_rank: int = 0,
    flow_samples: int = 1,
    checkpointing: float = 0.0,
    cached_prefix: bool = False,
    time_per_step: bool = False,
) -> float:
    """Return the work of one sample, forward and backward.

    With a `lora_rank` it is adapters that are trained, on attention and MLP of language model and expert, or of the
    expert alone; without one the `part` itself. `prompt_tokens` are those that are computed, padding of the batch
    included. `checkpointing` is the share of the layers that is computed twice; 0 gives the useful work. With
    `cached_prefix` only the expert is run; with `time_per_step` its norms are told the flow time of every action.
    """
    prefix = cameras * sizes.patches_per_image + prompt_tokens
    total, repeated = Work(), Work()
    if not cached_prefix:
        ends, layers = vision_work(sizes, part, lora_rank)
        language = language_work(sizes, prefix, part, lora_rank)
        total, repeated = (ends + layers) * cameras + language, layers * cameras + language
    ends, layers = expert_work(sizes, prefix, lora_rank, sizes.horizon if time_per_step else 1)
    total = total + (ends + layers) * flow_samples
    repeated = repeated + layers * flow_samples
    return total.forward + total.backward + checkpointing * (repeated.forward if repeated.backward else 0.0)


def vision_work(sizes: ModelConfig, part: Part, rank: int) -> tuple[Work, Work]:
    """Return the work of one image outside of the blocks and in them. The pixels want no gradient."""
    width, tokens = sizes.vision_width, sizes.patches_per_image
    own = part == "full" and not rank
    trained, first = Training(weights=own, inputs=own), Training(weights=own, inputs=False)
    head = Training(weights=part != "expert" and not rank, inputs=own)
    ends = linear(tokens, 3 * sizes.patch_size**2, width, first) + linear(tokens, width, sizes.language_width, head)
    block = linear(tokens, width, width, trained) * 4 + attention(tokens, tokens, width, trained.graph)
    block = block + linear(tokens, width, sizes.vision_mlp, trained) + linear(tokens, sizes.vision_mlp, width, trained)
    return ends, block * sizes.vision_depth


def language_work(sizes: ModelConfig, prefix: int, part: Part, rank: int) -> Work:
    """Return the work of the language model; its last layer computes keys and values only."""
    moves = part != "expert"
    inner = Training(weights=moves and not rank, inputs=moves, rank=rank if moves else 0)
    first = Training(weights=inner.weights, inputs=inner.weights, rank=inner.rank)
    width, heads, mlp = sizes.language_width, sizes.num_heads * sizes.head_dim, sizes.language_mlp
    kv = 2 * sizes.num_kv_heads * sizes.head_dim
    rest = linear(prefix, heads, width, inner) + attention(prefix, prefix, heads, inner.graph)
    rest = rest + linear(prefix, width, mlp, inner) * 2 + linear(prefix, mlp, width, inner)

    def projections(entering: Training, outputs: int) -> Work:
        halves = linear(prefix, width, kv // 2, entering) * 2
        return halves if outputs == kv else halves + linear(prefix, width, outputs - kv, entering)

    if sizes.depth == 1:
        return projections(first, kv)
    between = (projections(inner, heads + kv) + rest) * (sizes.depth - 2)
    return projections(first, heads + kv) + rest + between + projections(inner, kv)


def expert_work(sizes: ModelConfig, prefix: int, rank: int, times: int = 1) -> tuple[Work, Work]:
    """Return the work of one flow draw outside of the expert's layers and in them; `times` are its flow times."""
    inner = Training(weights=not rank, rank=rank)
    norm, whole = Training(weights=not rank), Training(weights=True)
    entering = Training(weights=True, inputs=False)
    width, heads, mlp, steps = sizes.expert_width, sizes.num_heads * sizes.head_dim, sizes.expert_mlp, sizes.horizon
    modulation = linear(times, width, 3 * width, norm)
    layer = modulation * 2 + attention(steps, prefix + steps, heads, True)
    layer = layer + linear(steps, width, heads, inner) + linear(steps, heads, width, inner)
    layer = layer + linear(steps, width, sizes.num_kv_heads * sizes.head_dim, inner) * 2
    layer = layer + linear(steps, width, mlp, inner) * 2 + linear(steps, mlp, width, inner)
    ends = modulation + linear(times, width, width, entering) + linear(times, width, width, whole)
    ends = ends + linear(steps, sizes.action_dim, width, entering) + linear(steps, width, sizes.action_dim, whole)
    return ends, layer * sizes.depth


def linear(tokens: int, inputs: int, outputs: int, training: Training) -> Work:
    """Return the work of a linear map over `tokens`, its adapter included."""
    forward = 2.0 * tokens * inputs * outputs
    work = Work(forward, forward * (training.weights + training.inputs))
    if training.rank:
        down, up = 2.0 * tokens * inputs * training.rank, 2.0 * tokens * training.rank * outputs
        work = work + Work(down + up, down * (1 + training.inputs) + up * 2)
    return work


def attention(queries: int, keys: int, width: int, graph: bool) -> Work:
    """Return the work of scores and their sum over values; `width` is that of all query heads."""
    forward = 4.0 * queries * keys * width
    return Work(forward, 2 * forward * graph)


def known_gpu(device_name: str) -> Gpu | None:
    """Return the GPU that the driver calls so; None when its peak is not in the table."""
    name = DEVICE_NAMES.get(device_name)
    return None if name is None else GPUS[name]
