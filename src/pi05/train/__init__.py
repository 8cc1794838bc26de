"""Training: `loop.py` is the page to read first; `config.py` holds every setting.

The room is also the function of its name: `pi05.train(config)`. A package cannot have both a function and a sub-package
`train`, since an import of the second would replace the first; so the module itself can be called. Torch is loaded when
it is.
"""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pi05.train.config import TrainConfig
    from pi05.train.loop import TrainResult


class _TrainRoom(types.ModuleType):
    """The module, which trains when it is called."""

    def __call__(self, config: TrainConfig, *, console: bool = True) -> TrainResult:
        """Train as configured, and return run folder, steps, best held-out error and last checkpoint.

        The same as `pi05 train` with these settings. `console=False` prints nothing. Raises UserError for what the user
        can put right, and KeyboardInterrupt when it is interrupted, after saving.
        """
        from pi05.train.loop import train

        return train(config, console=console)


sys.modules[__name__].__class__ = _TrainRoom
