"""Python itself, the packages that pi05 needs, and what may be imported or loaded in their place."""

from __future__ import annotations

import json
import os
import re
import site
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from pi05.doctor.facts import Interpreter, Package
from pi05.triton_here import why_no_triton

SHADOWING = ("torch", "numpy", "av", "pi05", "lerobot", "tokenizers", "safetensors", "huggingface_hub")
"""Packages that must not come from PYTHONPATH."""
CUDA_LIBRARY = re.compile(r"lib(cudart|cublas|cublasLt|cudnn\w*|nccl|nvrtc|cusparse|cufft|nvJitLink)\.so[.\d]*")


def probe_interpreter(
    *,
    version: tuple[int, int, int] | None = None,
    import_path: Sequence[str] | None = None,
    environment: Mapping[str, str] = os.environ,
    requirements: Callable[[], Iterable[str]] = lambda: metadata.requires("pi05") or (),
    version_of: Callable[[str], str | None] | None = None,
    origin_of: Callable[[str], str | None] | None = None,
    triton: Callable[[], str | None] = why_no_triton,
) -> Interpreter:
    """Look at this process's Python; `origin_of` returns a package's `direct_url.json`."""
    folders = sys.path if import_path is None else import_path
    try:
        wanted, sources = list(requirements()), None
    except metadata.PackageNotFoundError:
        wanted, sources = [], str(Path(__file__).resolve().parents[4])
    return Interpreter(
        version=version or (sys.version_info[0], sys.version_info[1], sys.version_info[2]),
        virtual=sys.prefix != sys.base_prefix or "CONDA_PREFIX" in environment,
        packages=tuple(_packages(wanted, version_of or _version)),
        sources=sources,
        torch_folders=_torch_folders(folders),
        user_site=site.getusersitepackages(),
        editable_lerobot=_editable((origin_of or _origin)("lerobot")),
        python_path=tuple(
            (entry, _holds(Path(entry))) for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry
        ),
        library_path=tuple(
            (entry, libraries)
            for entry in environment.get("LD_LIBRARY_PATH", "").split(os.pathsep)
            if entry and (libraries := _cuda_libraries(Path(entry)))
        ),
        why_no_triton=triton(),
    )


def _packages(wanted: Iterable[str], version_of: Callable[[str], str | None]) -> Iterable[Package]:
    for line in wanted:
        found = re.fullmatch(r"([\w.-]+)\s*>=\s*([\w.]+)", line.strip())
        if found is not None and found[1] != "torch":  # torch has a probe of its own; extras carry a marker
            yield Package(name=found[1], oldest=found[2], found=version_of(found[1]))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _origin(name: str) -> str | None:
    try:
        return metadata.distribution(name).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None


def _editable(origin: str | None) -> str | None:
    """Return the source folder of an editable installation (PEP 610)."""
    try:
        entry = json.loads(origin or "{}")
        editable = entry.get("dir_info", {}).get("editable", False)
        return str(entry.get("url", "")).removeprefix("file://") if editable else None
    except (ValueError, AttributeError):
        return None


def _torch_folders(folders: Iterable[str]) -> tuple[str, ...]:
    found = [Path(folder or ".") / "torch" for folder in folders]
    return tuple(dict.fromkeys(str(path.resolve()) for path in found if (path / "version.py").is_file()))


def _holds(folder: Path) -> tuple[str, ...]:
    return tuple(
        name for name in SHADOWING if (folder / name / "__init__.py").is_file() or (folder / f"{name}.py").is_file()
    )


def _cuda_libraries(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(entry.name for entry in folder.iterdir() if CUDA_LIBRARY.fullmatch(entry.name)))
    except OSError:  # an entry that is not there, or not to be read, gives nothing
        return ()
