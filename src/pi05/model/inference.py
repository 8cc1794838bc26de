"""A network for inference only, from outside: the precision that it is held in, its layout, and compiled graphs.

Compiled, a chunk is three graphs of static shapes: pictures, prefix, and all denoising steps. Keys and values of the
prefix are computed once, as without compilation, and read by every step; nothing returns to Python between the steps.
On a CPU the weights become constants of the graphs, laid out once as its matrix products read them. On a GPU the graphs
are replayed as CUDA graphs. Compilation takes minutes at full size, at the first chunk of each new shape: number of
samples, of cameras, of prompt tokens (padded to multiples of 8) and of steps.

What steers the steps from outside (`serve/rtc.py`) is Python between them, so such a chunk takes its steps one by one,
on the compiled prefix. Leaves out training, which compiles layer by layer (`train/activations.py`).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from pi05.errors import ConfigError
from pi05.model.flow import Steer
from pi05.model.gemma import GatedMlp, KeyValue
from pi05.model.layers import Linear
from pi05.model.pi05 import Pi05
from pi05.model.quantize import quantize_frozen
from pi05.model.siglip import VisionMlp

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
    """Let `model.sample_actions` run compiled graphs from now on. The weights must not change any more."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES)
    settings: dict[str, Any] = {"backend": backend, "dynamic": False, "fullgraph": True}
    if backend == "inductor":
        on_cpu = next(model.parameters()).device.type == "cpu"
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

    model.prefill = torch.compile(model.prefill, **settings)  # type: ignore[method-assign]
    model.vision.forward = torch.compile(model.vision.forward, **settings)  # type: ignore[method-assign]
    model.denoise = denoise  # type: ignore[method-assign]
