"""What all tests share: checked shapes, the folder of real data, and the markers `slow`, `gpu` and `long`."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import hypothesis
import jaxtyping
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# `fakes.py` lies beside this file and is imported as `fakes` from every folder of tests.
if str(REPOSITORY / "tests") not in sys.path:
    sys.path.insert(0, str(REPOSITORY / "tests"))

from long_tests import LONG  # noqa: E402 - it lies there
from proofs import watched  # noqa: E402 - likewise

# Every tensor annotation in the package is checked at every call. This must run before anything imports pi05. It costs
# as much as the unit tests themselves, so `make quick` goes without it.
if "PI05_UNCHECKED_SHAPES" not in os.environ:
    jaxtyping.install_import_hook("pi05", "checker.typecheck")

# A shell starts background jobs with SIGINT ignored, nohup with SIGHUP, and their children inherit that: tests that
# press Ctrl-C or close the terminal on a program of their own need them back.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _interpret_triton() -> None:
    """Let Triton's own functions be interpreted, where there is no GPU to compile them for.

    Triton decides that when it is imported, which any test that compiles a model does through PyTorch; after it, the
    tests of kernels would depend on which tests their process ran before them. Kernels are decided on one by one.
    """
    if importlib.util.find_spec("triton") is None:
        return
    import torch

    if torch.cuda.is_available():
        return
    assert "triton" not in sys.modules, "Triton was imported before the tests were"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        import triton.language  # noqa: F401 - its functions are decorated here, once and for all


_interpret_triton()

# Tests never depend on how fast the machine is.
hypothesis.settings.register_profile(
    "pi05", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("pi05")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", default=False, help="run the tests marked slow, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    skip_slow = None if config.getoption("--slow") else pytest.mark.skip(reason="slow: runs with --slow")
    skip_gpu = None
    if any("gpu" in item.keywords for item in items):
        import torch

        if not torch.cuda.is_available():
            skip_gpu = pytest.mark.skip(reason="gpu: this machine has no CUDA device")
    for item in items:
        path = item.path.relative_to(REPOSITORY / "tests").as_posix()
        if {path, f"{path}::{item.name.partition('[')[0]}"} & LONG:
            item.add_marker(pytest.mark.long)
        if skip_slow is not None and item.get_closest_marker("slow"):
            item.add_marker(skip_slow)
        if skip_gpu is not None and item.get_closest_marker("gpu"):
            item.add_marker(skip_gpu)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """See to it that a test which shows a finding, or its absence, does so."""
    with watched(item.nodeid):
        return (yield)


@pytest.fixture(autouse=True)
def _nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test ask the real hub for a name; those with a hub of their own take this back (`fetching.use_home`)."""
    import huggingface_hub.constants  # noqa: F401 - it reads the variable when it is imported, and hub tests do that

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of golden data and real data sets beside the repository, or skip."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip(f"no golden data: {folder} is not there")
    return folder


@contextmanager
def without_shape_checks() -> Iterator[None]:
    """Turn the shape checks off for a while."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Turn the shape checks off where torch.compile runs: Dynamo cannot trace the checker."""
    with without_shape_checks():
        yield


@pytest.fixture(autouse=True)
def _quick_where_slow(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave the shape checks, which double its time, out of a test that is long; what it calls is checked elsewhere."""
    long = any(map(request.node.get_closest_marker, ("slow", "long")))
    with without_shape_checks() if long else nullcontext():
        yield


@pytest.fixture(scope="module", autouse=True)
def _quick_where_whole(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave them out of whole commands, too."""
    whole = request.path.is_relative_to(REPOSITORY / "tests" / "e2e")
    with without_shape_checks() if whole else nullcontext():
        yield
