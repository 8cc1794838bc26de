"""Compile the update's kernels for a GPU that is not there, and print how many instructions of each kind they have.

Run as a program of its own: where the interpreter stands in for Triton, nothing can be compiled.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pi05.train.optim import triton_kernels
from pi05.train.optim.minifloat import FORMATS
from pi05.train.optim.triton_update import EXACT, FIELDS, VALUES

NUMBERS = dict.fromkeys(("kept", "size", "correction", "share", "beta2", "share2", "eps"), "fp32")
KINDS = ("fma.rn", "div.rn.f32", "div.full", "div.approx", "sqrt.rn.f32", "sqrt.approx", ".ftz")


def compiled(kernel: Any, types: dict[str, str], constants: dict[str, int], capability: int) -> dict[str, int]:
    """Return the numbers of instructions."""
    types = {**types, **NUMBERS, **dict.fromkeys(constants, "constexpr")}
    signature = {name: types[name] for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places)
    code = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=EXACT).asm["ptx"]
    return {kind: len(re.findall(re.escape(kind), code)) for kind in KINDS}


def main(capability: int) -> None:
    """Print a table of kernels as JSON."""
    found = {}
    moments = {"factor": "*fp32", "keys": "*i32", "count": "i32", "start": "i32"}
    for kind in ("bf16", "fp32"):
        for state, (one, other) in FORMATS.items():
            types = {"weight_pointer": f"*{kind}", "gradient_pointer": f"*{kind}", "codes1": "*u8", "codes2": "*u8"}
            types |= {"scales1": "*fp32", "scales2": "*fp32", "largest1": "fp32", "largest2": "fp32", **moments}
            constants = {"EXPONENT1": one.exponent_bits, "MANTISSA1": one.mantissa_bits, "BITS": one.bits}
            constants |= {"EXPONENT2": other.exponent_bits, "MANTISSA2": other.mantissa_bits}
            constants |= {"BLOCK": one.block, "ROWS": VALUES // one.block}
            found[f"{state}, {kind}"] = compiled(triton_kernels.packed, types, constants, capability)
        types = {"weight": f"*{kind}", "gradient": f"*{kind}", "first": "*fp32", "second": "*fp32", **moments}
        found[f"float32, {kind}"] = compiled(triton_kernels.float32, types, {"CHUNK": VALUES}, capability)
        types = {"table": "*i64", "weight_like": f"*{kind}", "gradient_like": f"*{kind}"}
        sizes = {"CHUNK": VALUES, "FIELDS": FIELDS}
        found[f"group, {kind}"] = compiled(triton_kernels.float32_group, types, sizes, capability)
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
