"""Start LIBERO in this process, once: packages, assets, graphics library, and its import without a question or a line.

LIBERO's own start asks on the terminal where data sets shall lie and writes the answer into the home folder; robosuite
complains of a missing file of settings and writes a log to /tmp, where another user's log makes the import fail;
numba keeps compiled code beside the sources; matplotlib makes a folder in the home. Here all of them are told what they
need beforehand, in memory or in pi05's cache folder, and nothing is written into site-packages.

Leaves out tasks (`tasks.py`) and episodes (`simulator.py`).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import warnings
from dataclasses import dataclass
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from pi05.errors import ConfigError, tell
from pi05.sim.libero.assets import find_assets
from pi05.sim.libero.rendering import choose_rendering
from pi05.sim.libero.versions import INSTALL, require_packages


@dataclass(frozen=True)
class Libero:
    """LIBERO, started."""

    assets: Path
    rendering: str
    """Graphics library, in MuJoCo's word."""
    note: str | None
    """What a report has to say of the MuJoCo that is installed."""
    make: Any
    """The class `OffScreenRenderEnv`."""


_started: Libero | None = None


def start_libero(allow: frozenset[str] = frozenset()) -> Libero:
    """Import LIBERO, unless this process has done so already.

    Raises ConfigError or EvaluationError for what is missing: packages, another MuJoCo, assets, a way to draw.
    """
    global _started
    note = require_packages(allow)
    if _started is None:
        assets, rendering = find_assets(), choose_rendering()
        _started = Libero(assets, rendering, note, _import_quietly(assets))
    return _started


def package_folder() -> Path:
    """Return the folder of LIBERO's own files: tasks and initial states. Imports nothing."""
    package = find_spec("libero")
    for place in () if package is None else package.submodule_search_locations or ():
        if (Path(place) / "libero" / "bddl_files").is_dir():
            return Path(place) / "libero"
    raise ConfigError("LIBERO is not installed", wanted="the package hf-libero", remedy=INSTALL)


def cache_folder() -> Path:
    """Return where compiled code is kept between runs, in the user's cache."""
    return _cache() / "numba"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "pi05"


def _import_quietly(assets: Path) -> Any:
    _tell_robosuite()
    _tell_libero()
    os.environ.setdefault("MPLCONFIGDIR", str(_cache() / "matplotlib"))  # else it makes ~/.config/matplotlib
    words = io.StringIO()
    with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import libero.libero as libero

        libero._assets_path_cache = str(assets)
        from libero.libero.envs import OffScreenRenderEnv
    return OffScreenRenderEnv


def _tell_robosuite() -> None:
    """Load robosuite's settings ahead of it, without its log file and its advice; where numba keeps compiled code.

    robosuite compiles three small functions, 10 to 50 s the first time.
    """
    if "robosuite" in sys.modules:
        return  # another program in this process has its own
    package = find_spec("robosuite")
    place = Path(str(package.origin)).parent / "macros.py" if package is not None else Path()
    spec = spec_from_file_location("robosuite.macros", place)
    if spec is None or spec.loader is None:
        raise ConfigError("robosuite cannot be loaded", wanted=str(place), remedy=INSTALL)
    macros = module_from_spec(spec)
    spec.loader.exec_module(macros)
    vars(macros).update(CONSOLE_LOGGING_LEVEL="ERROR", FILE_LOGGING_LEVEL=None, IMAGE_CONVENTION="opengl")
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder()))
    except OSError as refusal:
        vars(macros).update(CACHE_NUMBA=False)
        tell(f"note: robosuite is compiled anew each time: {cache_folder()}: {refusal.strerror}", aside=True)
    sys.modules["robosuite.macros"] = macros
    # Its name is looked for first; that it holds nothing is why robosuite says nothing.
    sys.modules.setdefault("robosuite.macros_private", ModuleType("robosuite.macros_private"))


def _tell_libero() -> None:
    """Write the file that LIBERO would ask its questions for; it lives as long as this process."""
    folder, package = tempfile.TemporaryDirectory(prefix="pi05-libero-"), package_folder()
    _kept.append(folder)
    names = {"benchmark_root": ".", "bddl_files": "bddl_files", "init_states": "init_files"}
    places = {key: str(package / name) for key, name in names.items()}
    places |= {"datasets": folder.name, "assets": str(package / "assets")}
    # JSON is YAML
    (Path(folder.name) / "config.yaml").write_text(json.dumps(places), encoding="utf-8")
    os.environ["LIBERO_CONFIG_PATH"] = folder.name


_kept: list[tempfile.TemporaryDirectory[str]] = []
