"""The kernels as Triton compiles them for GPUs that are not there: nothing is joined, nothing approximated."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "kernel_code.py"


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton here (`make kernels` installs it)")
@pytest.mark.parametrize("capability", [80, 90, 120])
def test_every_operation_rounds_as_ieee_754_has_it(capability: int, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, str(PROGRAM), str(capability)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert answer.returncode == 0, answer.stderr[-2000:]
    kernels = json.loads(answer.stdout.splitlines()[-1])
    assert len(kernels) == 8
    for name, counts in kernels.items():
        assert counts["div.rn.f32"] > 0, name
        assert counts["sqrt.rn.f32"] > 0, name
        for forbidden in ("fma.rn", "div.full", "div.approx", "sqrt.approx", ".ftz"):
            assert counts[forbidden] == 0, (name, forbidden)
