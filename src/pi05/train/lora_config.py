"""The settings of LoRA: which linear maps get an adapter, which are trained in full. Torch-free.

Names are LeRobot's (`--peft.*`) and, where LeRobot has none, PEFT's (`LoraConfig`). Patterns match LeRobot's module
names by PEFT's rules; the named sets here are patterns too. Leaves out what they hit (`lora.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from pi05.settings.schema import Checked, refuse

_MAPS = r"\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
TARGET_SETS = {
    "all": r".*\.(language_model|gemma_expert\.model)" + _MAPS,
    "expert": r".*\.gemma_expert\.model" + _MAPS,
    "lerobot": r".*\.gemma_expert\..*\.self_attn\.(q|v)_proj|model\.(action_in_proj|action_out_proj)",
}
"""all: attention and MLP of language model and expert (openpi's choice); lerobot: what its default hits on π₀.₅."""

PROJECTIONS = ("action_in_proj", "action_out_proj", "time_mlp_in", "time_mlp_out")


@dataclass(frozen=True, kw_only=True)
class PeftConfig(Checked):
    """Low-rank adapters on a frozen base; any of these flags switches them on, as in LeRobot."""

    FLAG_PREFIX: ClassVar[str] = "peft."

    method_type: Literal["lora"] = "lora"
    """Kind of adapter; this program knows LoRA (with rsLoRA and DoRA)."""
    r: int = 16
    """Rank of the adapters, 1 or more."""
    lora_alpha: float | None = None
    """Scaling: the adapter counts alpha / rank; the rank when not given (LeRobot's default is PEFT's 8), above 0."""
    target_modules: str = "all"
    """Maps that get an adapter: a regular expression for LeRobot's whole module names, a list of last parts such as
    [q_proj,v_proj], or a set: all (attention and MLP of language model and expert), expert, lerobot (its default)."""
    full_training_modules: tuple[str, ...] = PROJECTIONS
    """Maps that are trained in full, by last parts of LeRobot's module names; dense adds the expert's adaptive norms,
    [] is none. A map that is also a target is trained in full."""
    init_type: Literal["default", "gaussian"] = "default"
    """First values of A: default (PEFT's uniform) or gaussian; B starts at zero, and so training at the base."""
    use_rslora: bool = False
    """Divide alpha by the root of the rank instead of the rank."""
    use_dora: bool = False
    """Train the length of each row of a weight apart from its direction (DoRA); slower, and the base stays float32."""
    quantize: Literal["none", "nf4", "int8"] = "none"
    """How the frozen base is held; in fewer bits it is QLoRA: training and policy see the rounded base, and the
    embedding is in int8 either way.
    - none: as --precision says.
    - nf4: 4 bits; the least memory.
    - int8: 8 bits; nearer to the base."""
    lora_dropout: float = 0.0
    """Share of the adapters' inputs that is dropped in training, from 0 to below 1."""

    def _limits(self) -> None:
        self._at_least(1, "r")
        self._require(self.lora_alpha is None or self.lora_alpha > 0, "lora_alpha", "a number above 0")
        self._require(0 <= self.lora_dropout < 1, "lora_dropout", "a number from 0 to below 1")
        targets = self.targets
        if isinstance(targets, str):
            try:
                re.compile(targets)
            except re.error as error:
                allowed = f"a regular expression, a list such as [q_proj,v_proj], or {' or '.join(TARGET_SETS)}"
                raise refuse(
                    "peft.target_modules", self.target_modules, allowed, f"correct the pattern: {error}"
                ) from None
        self._require(bool(targets), "target_modules", "a pattern, or a list of at least one name")

    @property
    def alpha(self) -> float:
        """Numerator of the scaling."""
        return float(self.r) if self.lora_alpha is None else self.lora_alpha

    @property
    def targets(self) -> str | tuple[str, ...]:
        """Regular expression for whole names, or last parts of names, of the maps that get an adapter."""
        text = self.target_modules.strip()
        if text in TARGET_SETS:
            return TARGET_SETS[text]
        return text if (names := _as_list(text)) is None else names


def _as_list(text: str) -> tuple[str, ...] | None:
    """Read a list in JSON or YAML's bare form; None where the text is none, as `[qv]_proj` is."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    import yaml

    try:
        value = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        return None
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    return None
