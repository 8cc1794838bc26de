"""What the machine is asked to do: the rest of `machine` is shown where results are written (`eval/test_result.py`)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pi05.machine import machine_info

PROGRAM = """
import json, resource
import torch
from pi05.machine import keep_freed_memory

torch.set_num_threads(1)


def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        large = torch.ones(1 << 22)
        larger = torch.cat([large, large])
        del large, larger
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


before = (faults(), faults())[-1]
kept = keep_freed_memory()
print(json.dumps({"kept": kept, "before": before, "after": (faults(), faults())[-1]}))
"""


@pytest.mark.process
def test_freed_memory_is_used_again() -> None:
    """The kernel hands out a page of 4 KiB per fault: 10 rounds of 48 MiB are 122,880."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    if not found["kept"]:
        pytest.skip("this C library has no mallopt, or is not glibc")
    assert found["before"] > 10_000
    assert found["after"] < 100


def test_a_result_names_the_machine() -> None:
    assert {"processor", "cpu_cores", "gpu", "torch"} <= machine_info().keys()
