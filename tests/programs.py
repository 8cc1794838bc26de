"""Programs beside the package (`benchmarks/`, `scripts/`) as modules, for tests of their functions."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[1]


def load_program(path: str) -> ModuleType:
    """Return the program at a path of the repository; its main function is not run."""
    name = Path(path).stem
    specification = importlib.util.spec_from_file_location(name, REPOSITORY / path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses look their module up
    if (folder := str((REPOSITORY / path).parent)) not in sys.path:  # a program finds the ones beside it
        sys.path.append(folder)
    specification.loader.exec_module(module)
    return module
