"""Unit tests that take more than two seconds on a quiet core, as `--durations` showed: whole files, or tests in them.

They get the marker `long`, which `make quick` leaves out. Here, and not beside the tests, so that one look tells what
`make quick` does not run.
"""

from __future__ import annotations

LONG = frozenset(
    {
        "unit/eval/test_rollout.py::test_the_number_of_environments_changes_nothing",
        "unit/model/test_lora.py::test_compiled_and_recomputed_layers",
        "unit/sim/test_experts.py::test_the_expert_succeeds_from_everywhere",
        "unit/train/optim/test_compiled_steps.py",
        "unit/train/optim/test_precision.py",
        "unit/train/plan/test_methods.py",
        "unit/train/plan/test_step_on_shapes.py",
        "unit/train/test_config.py::test_a_configuration_survives_its_file",
        "unit/train/test_fake_cuda.py",
    }
)
