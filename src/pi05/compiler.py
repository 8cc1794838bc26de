"""What torch.compile takes of this machine, and how its errors are known and told. No torch until it is asked.

Leaves out whether compiling pays and with which flag it is asked for: `train/plan/compilation.py`,
`serve/compilation.py`.
"""

from __future__ import annotations

from subprocess import CalledProcessError

from pi05.triton_here import why_no_headers, why_no_triton

COMPILERS = ("torch._dynamo.", "torch._inductor.", "torch._functorch.", "triton.")
"""Packages whose errors are those of a compiler."""


def why_no_compiler(device: str) -> str | None:
    """Return None where all is here that code for a kind of device, cpu or cuda, is compiled by, else the reason.

    For a CPU that is a C++ compiler, looked for as PyTorch does: $CXX if that is set, else g++.
    """
    if device == "cuda":
        return why_no_triton()
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "a C++ compiler is missing (g++, or what CXX names)"
    return why_no_headers()


def is_of_compiler(error: BaseException) -> bool:
    """Tell whether an error came from making or launching compiled code; nothing else in a run starts programs."""
    kinds = type(error).__mro__
    return isinstance(error, CalledProcessError) or any(f"{kind.__module__}.".startswith(COMPILERS) for kind in kinds)


def first_line(error: BaseException) -> str:
    """Return what an error says in one line; Dynamo's own begins with the name of the backend."""
    inner = getattr(error, "inner_exception", None) or error
    return f"{type(inner).__name__}: {(str(inner).strip() or 'no message').splitlines()[0]}"
