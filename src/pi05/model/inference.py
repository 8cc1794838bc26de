"""A network for inference only, from outside: the precision that it is held in, its layout, and compiled graphs.

Compiled, a chunk is three graphs of static shapes: pictures, prefix, and all denoising steps. Keys and values of the
prefix are computed once, as without compilation, and read by every step; nothing returns to Python between the steps.
On a CPU the weights become constants of the graphs, laid out once as its matrix products read them. On a GPU the graphs
are replayed as CUDA graphs. Compilation takes minutes at full size, at the first chunk of each new shape: number of
samples, of cameras, of prompt tokens (padded to multiples of 8) and of steps.

What steers the steps from outside (`serve/rtc.py`) is Python between them, so such a chunk takes its steps one by one,
on the compiled prefix. Leaves out which shapes there are (`data/collate.py`), and training, which compiles layer
by layer (`train/activations.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from pi05.errors import ConfigError
from pi05.model.flow import Steer, Velocity
from pi05.model.gemma import GatedMlp, KeyValue
from pi05.model.layers import Linear
from pi05.model.packed_keys import Packing
from pi05.model.pi05 import Pi05
from pi05.model.quantize import quantize_frozen
from pi05.model.siglip import VisionMlp

P = ParamSpec("P")
T = TypeVar("T")
Precision = Literal["float32", "bfloat16", "int8"]
"""`float32` and `bfloat16`: of matrices and arithmetic of the towers. `int8`: of the matrices, with a scale for 64."""
SHAPES = 64
"""Versions of one graph before Dynamo gives up: prompts of full size have 25 lengths."""


def set_up_inference(model: Pi05, *, precision: Precision | None = None, compile: bool = False) -> None:
    """Hold the network in another precision, and compile it, as asked; on a CPU lay its matrices out. No more training.

    Raises ConfigError for int8 with compilation, which would unpack the codes into constants.
    """
    if compile and precision == "int8":
        raise ConfigError(
            "matrices in int8 cannot be compiled",
            wanted="precision float32 or bfloat16 with compile",
            found="int8: the compiler would unpack the codes and keep them in full",
            remedy="drop one of the two: int8 is for memory, compilation for speed",
        )
    if precision == "int8":
        quantize_frozen(model, "int8")
    elif precision is not None:
        dtype = getattr(torch, precision)
        hold_matrices(model, dtype)
        model.compute_dtype = dtype
    for module in model.modules():
        if isinstance(module, GatedMlp | VisionMlp):
            module.only_infers = True  # not by the absence of gradients: a prefix computed ahead has training's bits
    if compile:
        compile_sampling(model)
    elif precision != "int8" and model.embedding.weight.device.type == "cpu":
        lay_out_matrices(model)


@torch.no_grad()
def lay_out_matrices(model: Pi05) -> None:
    """Let the rows of every matrix lie column by column, as a CPU's products read them; values and shapes stay.

    Products of a chunk's few rows wait for the matrix, and run faster so (`benchmarks/inference.py`). The last bits
    differ from those of the usual layout. Compilation does as much for itself.
    """
    for module in model.modules():
        if isinstance(module, Linear):
            module.weight.data = module.weight.data.t().contiguous().t()


@torch.no_grad()
def hold_matrices(model: Pi05, dtype: torch.dtype) -> None:
    """Hold the towers' matrices and the embedding in a precision, rounded to the nearest.

    The towers round these matrices at every use anyway. Vectors, and the maps that compute in float32, stay float32: a
    thousandth of the parameters.
    """
    for module in (*model.tower_maps.values(), model.embedding):
        module.weight.data = module.weight.data.to(dtype)


def compile_sampling(model: Pi05, backend: str = "inductor") -> None:
    """Let `model.sample_actions` run compiled graphs from now on. The weights must not change any more.

    On a GPU it runs in a thread of its own, whoever calls it: PyTorch keeps CUDA graphs for each thread.
    """
    on_cpu = next(model.parameters()).device.type == "cpu"
    settings: dict[str, Any] = {"backend": backend, "dynamic": False, "fullgraph": True}
    if backend == "inductor":
        settings["options"] = {"freezing": True} if on_cpu else {"triton.cudagraphs": True}
    plain, flow = model.denoise, torch.compile(model.denoise, **settings)

    def denoise(
        x_t: Float[Tensor, "B A X"],
        cache: list[KeyValue],
        valid: Bool[Tensor, "B L"] | None,
        num_steps: int,
        steer: Steer | None = None,
        committed: tuple[Float[Tensor, "B A X"], Int64[Tensor, " B"]] | None = None,
    ) -> Float[Tensor, "B A X"]:
        """Run the flow: as one graph, or step by step where something steers it."""
        if steer is not None:
            return plain(x_t, cache, valid, num_steps, steer, committed)
        return flow(x_t, cache, valid, num_steps, None, committed).clone()  # the memory of a CUDA graph is used again

    fill = torch.compile(model.prefill, **settings)

    def prefill(
        tokens: Float[Tensor, "B L D"], valid: Bool[Tensor, "B L"] | None, packing: Packing | None = None
    ) -> list[KeyValue]:
        """Fill the cache; the flow's graph, which reads it, would be given memory that its own start has freed."""
        return [(key.clone(), value.clone()) for key, value in fill(tokens, valid, packing)]

    model.prefill = fill if on_cpu else prefill  # type: ignore[method-assign]
    model.vision.forward = torch.compile(model.vision.forward, **settings)  # type: ignore[method-assign]
    model.denoise = denoise  # type: ignore[method-assign]
    sample = for_all_shapes(model.sample_actions)
    model.sample_actions = sample if on_cpu else in_one_thread(sample)  # type: ignore[method-assign]


def for_all_shapes(function: Callable[P, T]) -> Callable[P, T]:
    """Return the function with Dynamo's limit raised in the thread that calls it: that is a setting of each thread."""

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch._dynamo.config.recompile_limit < SHAPES:
            torch._dynamo.config.recompile_limit = SHAPES
        return function(*args, **kwargs)

    return run


def in_one_thread(function: Callable[P, T]) -> Callable[P, T]:
    """Return the function run in one thread, always the same, while its caller waits."""
    worker = ThreadPoolExecutor(1, thread_name_prefix="pi05-graphs")

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return worker.submit(function, *args, **kwargs).result()

    return run


def steer_first(steer: Steer, count: int, rows: Sequence[int]) -> Steer:
    """Return what steers a batch of which each row holds one of the first `count`, by what steers those alone."""
    every = list(rows)

    def steered(velocity: Velocity, x_t: Float[Tensor, "B A X"], time: Float[Tensor, " B"]) -> Float[Tensor, "B A X"]:
        def of_first(x_few: Float[Tensor, "few A X"], t_few: Float[Tensor, " few"]) -> Float[Tensor, "few A X"]:
            return velocity(x_few[every], t_few[every])[:count]

        return steer(of_first, x_t[:count], time[:count])[every]

    return steered
