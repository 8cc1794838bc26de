"""The methods of training, in one word each, and the settings that a word stands for. Torch-free.

    full            everything
    frozen-vision   everything but the vision tower
    expert          the action expert with the action and time projections
    lora            low-rank adapters on a frozen base
    qlora           the same on a base in 4 or 8 bits

Command line, configuration, planner, reports and published cards all use these words. LoRA's adapters go into a part of
the network too, so a method with adapters has a `Part` beside its word. Leaves out which parameters a part holds
(`parameters.py`) and which maps get an adapter (`lora.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Method = Literal["full", "frozen-vision", "expert", "lora", "qlora"]
Part = Literal["full", "frozen-vision", "expert"]
"""What of the network may change, by itself or by its adapters."""

LORA_RATE = 10
"""Learning rate of adapters over that of full fine-tuning (LeRobot's guide)."""


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """The settings behind a word, by flag."""

    required: dict[str, Any]
    """Any other value contradicts the word."""
    usual: dict[str, Any] = field(default_factory=dict)
    """Values where nothing else is asked for."""

    @property
    def settings(self) -> dict[str, Any]:
        """All of them."""
        return {**self.usual, **self.required}


_WHOLE = {"policy.use_peft": False, "policy.train_expert_only": False}
_ADAPTERS = {"policy.use_peft": True}
MEANINGS: dict[Method, Meaning] = {
    "full": Meaning(required=_WHOLE, usual={"policy.freeze_vision_encoder": False}),
    "frozen-vision": Meaning(required={**_WHOLE, "policy.freeze_vision_encoder": True}),
    "expert": Meaning(required={"policy.use_peft": False, "policy.train_expert_only": True}),
    "lora": Meaning(required=_ADAPTERS, usual={"policy.train_expert_only": False, "peft.quantize": "none"}),
    "qlora": Meaning(required=_ADAPTERS, usual={"policy.train_expert_only": False, "peft.quantize": "nf4"}),
}


def name_part(*, train_expert_only: bool, freeze_vision_encoder: bool) -> Part:
    """Return what of the network may change, by LeRobot's two flags."""
    if train_expert_only:
        return "expert"
    return "frozen-vision" if freeze_vision_encoder else "full"


def name_method(part: Part, *, use_peft: bool, quantize: str) -> Method:
    """Return the word for a part of the network, trained itself or through adapters."""
    if not use_peft:
        return part
    return "lora" if quantize == "none" else "qlora"


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Learning rates of full fine-tuning: the peak, and the peak over the rate at the schedule's end."""

    peak: float
    peak_over_end: int = 10


FULL_RATES: dict[str | None, Rates] = {
    None: Rates(peak=2.5e-5),  # openpi and LeRobot: 2.5e-5, cosine to 2.5e-6
    "real": Rates(peak=2.5e-5),
    "sim": Rates(peak=5e-5, peak_over_end=1),  # openpi's pi05_libero: constant after warm-up
    "tiny": Rates(peak=3e-4),  # the packaged base; small networks take larger steps
    "demo": Rates(peak=1e-3),
}
"""By preset. Kept apart from the presets, so that a rate follows from preset and method whoever builds the settings."""


def usual_rates(preset: str | None, *, adapters: bool) -> Rates:
    """Return the rates of a preset: ten times those of full fine-tuning where adapters are trained."""
    full = FULL_RATES[preset]
    return Rates(peak=float(f"{LORA_RATE * full.peak:.6g}"), peak_over_end=full.peak_over_end) if adapters else full
