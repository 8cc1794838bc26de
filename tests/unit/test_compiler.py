"""What torch.compile takes, asked before it is waited for; `train/plan/test_compile_trial.py` knows its errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch._inductor import cpp_builder
from torch._inductor.exc import InvalidCxxCompiler

from pi05 import compiler
from pi05.compiler import why_no_compiler


def test_a_cpu_takes_a_cpp_compiler_and_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", lambda: "g++")
    monkeypatch.setattr(compiler, "why_no_headers", lambda: None)
    assert why_no_compiler("cpu") is None
    monkeypatch.setattr(compiler, "why_no_headers", lambda: "Python.h is missing")
    assert why_no_compiler("cpu") == "Python.h is missing"

    def none() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    assert why_no_compiler("cpu") == "a C++ compiler is missing (g++, or what CXX names)"


@pytest.mark.process
def test_pytorch_looks_for_the_cpp_compiler_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its own search, which is what will run; PyTorch keeps an answer, so the search behind it is asked."""
    monkeypatch.setenv("PATH", str(tmp_path))
    cpp_builder.cpp_compiler_search.cache_clear()
    try:
        assert str(why_no_compiler("cpu")).startswith("a C++ compiler is missing")
    finally:
        cpp_builder.cpp_compiler_search.cache_clear()


def test_a_gpu_takes_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "why_no_triton", lambda: "the package triton is missing")
    assert why_no_compiler("cuda") == "the package triton is missing"
