"""`pi05 serve --compile_model=true`: refused before weights are read where nothing can be compiled, and faults told.

Leaves out the graphs (`model/inference.py`) and the shapes that they are made for (`data/collate.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pi05.compiler import first_line, is_of_compiler, why_no_compiler
from pi05.errors import ConfigError, ServeError, is_out_of_memory

FLAG = "--compile_model"


def require_compiler(device: str) -> None:
    """Raise ConfigError where a kind of device, cpu or cuda, has nothing here that compiles for it."""
    missing = why_no_compiler(device)
    if missing is not None:
        raise ConfigError(
            f"this machine cannot compile a network for {device}",
            wanted="all that torch.compile takes: " + ("Triton and a C compiler" if device == "cuda" else "g++"),
            found=missing,
            remedy=f"install it, or serve with {FLAG}=false",
        )


@contextmanager
def compiler_faults() -> Iterator[None]:
    """Turn an error of a compiler in this block into a ServeError that names the flag."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error) or not is_of_compiler(error):
            raise
        raise ServeError(
            "torch.compile failed on the network",
            wanted="a network that compiles on this machine, as asked for",
            found=first_line(error),
            remedy=f"{FLAG}=false serves it uncompiled",
        ) from error
