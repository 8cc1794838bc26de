"""The packages of this environment as wheels, in their very versions, for a machine without a network.

What pi05 needs is followed through the metadata of what is installed here, so that the wheels are those that run. pip
fetches them; builds of torch come from PyTorch's own index by the version's suffix (+cpu, +cu130). Wheels are for this
machine's Python and platform.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pi05.errors import HubError
from pi05.sources.faults import Say

PYTORCH = "https://download.pytorch.org/whl"
WITHOUT_DEPENDENCIES = ("hf-libero", "robosuite", "bddl")
"""Of LIBERO, where it is installed: no metadata leads to them (`make libero`), and one of them has to be built."""
INSTALL = "pip install --no-index --find-links wheels --no-deps -r wheels/requirements.txt"
"""What installs them there: all in their versions, and LIBERO, whose metadata ask for what nobody needs."""
Run = Callable[[Sequence[str]], int]


def download_wheels(folder: Path, say: Say, run: Run | None = None) -> list[str]:
    """Fetch the wheels of pi05 and all that it needs here; return their pins. Raises HubError where pip fails."""
    run = run or _run
    apart = [f"{name}=={_version(name)}" for name in WITHOUT_DEPENDENCIES if _version(name) is not None]
    pins = [*pinned_environment(), *apart]
    folder.mkdir(parents=True, exist_ok=True)
    say(f"wheels: {len(pins)} packages for Python {sys.version_info[0]}.{sys.version_info[1]} to {folder}")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    plain = [pin for pin in pins if not pin.startswith("pi05==") and pin not in apart]
    for index, group in by_index(plain).items():
        extra = [] if index is None else ["--extra-index-url", index]
        _must(run, [*pip, "download", "--no-deps", "--dest", str(folder), *extra, *group], "pip download")
    origin = source_folder()
    wanted = [str(origin)] if origin is not None else [pin for pin in pins if pin.startswith("pi05==")]
    _must(run, [*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), *apart, *wanted], "pip wheel")
    (folder / "requirements.txt").write_text("\n".join(pins) + "\n", encoding="utf-8")
    return pins


def _run(words: Sequence[str]) -> int:
    return subprocess.run(words, check=False).returncode


def _must(run: Run, words: list[str], what: str) -> None:
    code = run(words)
    if code != 0:
        raise HubError(
            f"{what} failed",
            found=f"exit code {code} of: {' '.join(words)}",
            remedy="read what pip says above; behind a slow network set PIP_INDEX_URL to a mirror of PyPI",
        )


def by_index(pins: Sequence[str]) -> dict[str | None, list[str]]:
    """Return the pins by the index that has them besides PyPI: builds with a suffix are on PyTorch's."""
    groups: dict[str | None, list[str]] = {}
    for pin in pins:
        suffix = re.search(r"\+(cpu|cu\d+|rocm[\d.]+|xpu)$", pin)
        groups.setdefault(f"{PYTORCH}/{suffix[1]}" if suffix else None, []).append(pin)
    return groups


def pinned_environment(root: str = "pi05") -> list[str]:
    """Return name==version of a package and of all that it needs here, extras that are installed included.

    A requirement's own extras count, too: `uvicorn[standard]` needs more than `uvicorn`.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = [(root, frozenset(_metadata(root, "Provides-Extra")))]
    while queue:
        name, extras = queue.pop()
        key = canonicalize_name(name)
        if (key, extras) in seen:
            continue
        seen.add((key, extras))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform, or of an extra that is not installed
        found[key] = f"{distribution.metadata['Name']}=={distribution.version}"
        for requirement in map(Requirement, distribution.requires or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                queue.append((requirement.name, frozenset(requirement.extras)))
    if root not in found:
        raise HubError(
            f"{root} is not installed as a package", found=sys.executable, remedy="make setup, or pip install ."
        )
    return sorted(found.values(), key=str.lower)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _metadata(name: str, field: str) -> list[str]:
    try:
        return importlib.metadata.metadata(name).get_all(field) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def source_folder(root: str = "pi05") -> Path | None:
    """Return the folder that a package was installed from; None for one from an index.

    An editable package is found twice: as installed, and by what its build left in the source folder.
    """
    notes = (found.read_text("direct_url.json") for found in importlib.metadata.distributions(name=root))
    text = next(filter(None, notes), None)
    url = urlsplit(str(json.loads(text)["url"])) if text else None
    return Path(unquote(url.path)) if url is not None and url.scheme == "file" else None
