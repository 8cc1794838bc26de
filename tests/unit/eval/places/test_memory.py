from __future__ import annotations

from pathlib import Path

import pytest

from pi05.eval.places.memory import free_memory, how_many_more

GIB = 2**30


def machine(folder: Path, available_kb: int | None, **cgroup: str) -> tuple[Path, Path]:
    if available_kb is not None:
        (folder / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable:   {available_kb} kB\n")
    for name, text in cgroup.items():
        (folder / name.replace("_", ".", 1)).write_text(text)
    return folder / "meminfo", folder


def test_the_kernel_and_the_container_both_limit(tmp_path: Path) -> None:
    whole = machine(tmp_path, 8 * 2**20, memory_max="max\n", memory_current="5")
    assert free_memory(*whole) == 8 * GIB
    limits = {
        "memory_max": f"{6 * GIB}\n",
        "memory_current": f"{4 * GIB}\n",
        "memory_stat": f"anon 3\ninactive_file {GIB}\n",
    }
    assert free_memory(*machine(tmp_path, 8 * 2**20, **limits)) == 3 * GIB
    assert free_memory(*machine(tmp_path, 1 * 2**20, **limits)) == GIB
    assert free_memory(tmp_path / "none", tmp_path / "none") is None


@pytest.mark.parametrize(("free", "more"), [(None, 7), (0, 0), (2 * GIB, 1), (9 * GIB, 5), (99 * GIB, 7)])
def test_as_many_as_fit_and_no_more_than_wanted(free: int | None, more: int) -> None:
    assert how_many_more(int(1.5 * GIB), free, wanted=7) == more
