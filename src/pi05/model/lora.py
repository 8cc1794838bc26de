"""Low-rank adapters (LoRA, rsLoRA, DoRA) put onto linear maps from outside; the network files do not know of them.

    y = x·Wᵀ + bias  +  scaling · (x·Aᵀ)·Bᵀ          W frozen, A [rank, in] and B [out, rank] trained

Behaviour follows Hugging Face PEFT (`tuners/lora/layer.py`, `dora.py`): adapters are float32 on a base of any
precision. Where the base computes in bfloat16, so does the low-rank product, as under autocast: sums in float32, added
to the base's output before that is rounded. PEFT alone would cast input and output to float32, which moves more memory
than the base's own product (`docs/decisions/0005-speed.md`); with DoRA it is done so here too.
Leaves out which modules get adapters and what files hold them (`checkpoint/peft/adapter.py`), and what is trained
(`train/`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pi05.errors import ConfigError
from pi05.model.layers import Linear

LORA_A, LORA_B, MAGNITUDE = "lora_a", "lora_b", "lora_magnitude"
ADAPTER_PARTS = (LORA_A, LORA_B, MAGNITUDE)
Start = Literal["uniform", "gaussian"]
"""First values of A: uniform within ±1/√inputs (PEFT's default), or normal with standard deviation 1/rank."""


@dataclass(frozen=True, kw_only=True)
class LoraSpec:
    """The adapter of one linear map."""

    rank: int
    """Width of the low-rank product; at least 1."""
    alpha: float
    """Numerator of the scaling."""
    rslora: bool = False
    """Divide alpha by the root of the rank instead of the rank."""
    dora: bool = False
    """Train the length of each row of the weight apart from its direction."""
    dropout: float = 0.0
    """Share of the adapter's inputs that are dropped in training; from 0 to below 1."""

    def __post_init__(self) -> None:
        self._require(isinstance(self.rank, int) and self.rank >= 1, "rank", "a whole number of at least 1")
        self._require(math.isfinite(self.alpha), "alpha", "a finite number")
        self._require(0 <= self.dropout < 1, "dropout", "from 0 to below 1")

    def _require(self, holds: bool, name: str, wanted: str) -> None:
        if not holds:
            found = f"{name}={getattr(self, name)!r}"
            raise ConfigError(f"LoRA {name} is impossible", wanted=wanted, found=found, remedy=f"change the {name}")

    @property
    def scaling(self) -> float:
        """Factor of the low-rank product."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class LoraLinear(Linear):
    """A linear map with an adapter; `weight` and `bias` are the base's own parameters, under their own names."""

    def __init__(
        self, base: nn.Linear, spec: LoraSpec, generator: torch.Generator | None = None, start: Start = "uniform"
    ) -> None:
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.spec = spec
        device = base.weight.device
        self.lora_a = nn.Parameter(_draw_a(spec.rank, base.in_features, device, generator, start))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, spec.rank, device=device))
        self.lora_magnitude = nn.Parameter(self._row_norms()) if spec.dora else None
        self.train(base.training)

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Return the base's output plus the adapter's, in the precision of `x`.

        The base comes first, as in PEFT, so that in bfloat16 the gradients of `x` are summed in the same order.
        """
        if self.lora_magnitude is None:
            result = super().forward(x)
            if x.dtype != self.lora_a.dtype:
                return self._add_low_rank(result, x)
            return result + self._low_rank(self._adapter_input(x))
        product = F.linear(x, self.weight.to(x.dtype))
        result = product if self.bias is None else product + self.bias.to(x.dtype)
        wide = self._adapter_input(x)
        seen = F.linear(wide, self.weight.to(wide.dtype)) if self._dropping else product
        # The norm takes part as a constant: no gradient flows through it (DoRA paper, section 4.3; PEFT alike).
        ratio = self.lora_magnitude / self._row_norms()
        return (result + ((ratio - 1) * seen + ratio * self._low_rank(wide))).to(x.dtype)

    @property
    def _dropping(self) -> bool:
        return self.training and self.spec.dropout > 0

    def _adapter_input(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch inputs"]:
        wide = x.to(self.lora_a.dtype)
        return F.dropout(wide, self.spec.dropout) if self._dropping else wide

    def _add_low_rank(
        self, result: Float[Tensor, "*batch outputs"], x: Float[Tensor, "*batch inputs"]
    ) -> Float[Tensor, "*batch outputs"]:
        """Return `result` plus the low-rank product, in one kernel that rounds to their precision once."""
        seen = F.dropout(x, self.spec.dropout) if self._dropping else x
        narrow = F.linear(seen, self.lora_a.to(x.dtype)).flatten(0, -2)
        up = self.lora_b.to(x.dtype).t()
        added = torch.addmm(result.flatten(0, -2), narrow, up, alpha=self.spec.scaling)
        return added.unflatten(0, result.shape[:-1])

    def _low_rank(self, wide: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        change = F.linear(F.linear(wide, self.lora_a), self.lora_b)
        return change if self.spec.scaling == 1 else change * self.spec.scaling  # the default; a wide tensor less

    @torch.no_grad()
    def _row_norms(self) -> Float[Tensor, " outputs"]:
        """Return the length of each row of the weight with its low-rank change, in float32."""
        return torch.linalg.vector_norm(self._changed_weight(), dim=1)

    def _changed_weight(self) -> Float[Tensor, "outputs inputs"]:
        wide = self.weight.to(self.lora_a.dtype)
        return wide + self.spec.scaling * (self.lora_b @ self.lora_a)

    @torch.no_grad()
    def merged_weight(self) -> Float[Tensor, "outputs inputs"]:
        """Return the weight that does without the adapter what this map does with it, in float32."""
        changed = self._changed_weight()
        if self.lora_magnitude is None:
            return changed
        return (self.lora_magnitude / torch.linalg.vector_norm(changed, dim=1))[:, None] * changed

    def extra_repr(self) -> str:
        """Name sizes and adapter."""
        return f"{super().extra_repr()}, {self.spec}"


def _draw_a(
    rank: int, inputs: int, device: torch.device, generator: torch.Generator | None, start: Start
) -> Float[Tensor, "rank inputs"]:
    """Draw the first values of A where the generator lives, so that the device changes nothing."""
    drawn = torch.empty(rank, inputs, device=device if generator is None else generator.device)
    if start == "gaussian":
        nn.init.normal_(drawn, std=1 / rank, generator=generator)
    else:
        nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
    return drawn.to(device)


def add_lora(
    model: nn.Module,
    specs: Mapping[str, LoraSpec],
    generator: torch.Generator | None = None,
    start: Start = "uniform",
) -> None:
    """Give the named linear maps an adapter that changes nothing yet (B is zero).

    The draws follow the order of the model's modules, whatever the order of `specs`. With DoRA the magnitudes are those
    of the present weights, so load the base first. Which parameters are trained is not touched. Raises KeyError for a
    name that is not a module and TypeError for one that is not a plain Linear; the model is then as it was.
    """
    modules = dict(model.named_modules())
    for name in specs:
        if name not in modules:
            raise KeyError(f"no module {name}")
        if type(modules[name]) is not Linear:
            raise TypeError(f"{name} is a {type(modules[name]).__name__}, not a Linear")
    for name, module in modules.items():
        if name in specs and isinstance(module, Linear):
            model.set_submodule(name, LoraLinear(module, specs[name], generator, start))


def lora_modules(model: nn.Module) -> dict[str, LoraLinear]:
    """Return the linear maps that have an adapter, by module name, in the model's order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the adapters' tensors by parameter name ("<module>.lora_a", …), without a copy."""
    return {
        f"{name}.{part}": getattr(module, part).detach()
        for name, module in lora_modules(model).items()
        for part in ADAPTER_PARTS
        if getattr(module, part) is not None
    }


@torch.no_grad()
def load_lora_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy `state` into the adapters of `model`. Raises ValueError, nothing copied, unless names and shapes agree."""
    own = lora_state(model)
    wanted, found = ({name: tuple(tensor.shape) for name, tensor in side.items()} for side in (own, state))
    if wanted != found:
        differing = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
        raise ValueError(f"the adapters' tensors differ from the model's: {', '.join(differing[:6])}")
    for name, tensor in own.items():
        tensor.copy_(state[name])


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Add every adapter to its weight, in float32, and make its module a plain Linear again.

    The weight stays the same parameter and keeps its precision; with a weight below float32 the sum is rounded to it.
    """
    for name, module in lora_modules(model).items():
        module.weight.copy_(module.merged_weight())
        plain = Linear(module.in_features, module.out_features, bias=module.bias is not None, device="meta")
        plain.weight, plain.bias = module.weight, module.bias
        model.set_submodule(name, plain.train(module.training))
