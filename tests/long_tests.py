"""Unit tests that take more than two seconds on a quiet core, as `--durations` showed: whole files, or tests in them.

They get the marker `long`, which `make quick` leaves out. Here, and not beside the tests, so that one look tells what
`make quick` does not run.
"""

from __future__ import annotations

LONG = frozenset(
    {
        "unit/checkpoint/peft/test_adapter.py::test_any_adapters_come_back",
        "unit/checkpoint/test_inspection.py::test_an_exported_folder_tells_its_origin",
        "unit/checkpoint/test_mutations.py",
        "unit/checkpoint/test_safetensors_writer.py::test_one_tensor_is_in_memory_at_a_time",
        "unit/commands/test_doctor.py",
        "unit/commands/test_export.py",
        "unit/commands/test_plan.py",
        "unit/data/lerobot/test_mutations.py",
        "unit/data/test_frame_cache.py::test_a_second_process_waits_and_builds_what_a_killed_one_has_not",
        "unit/eval/test_rollout.py::test_the_number_of_environments_changes_nothing",
        "unit/export/test_export.py",
        "unit/export/test_export_adapters.py",
        "unit/model/test_dead_work.py::test_no_score_matrix_and_no_square_mask",
        "unit/model/test_lora.py::test_compiled_and_recomputed_layers",
        "unit/serve/test_compilation.py::test_rows_that_fill_a_batch_up_are_dropped",
        "unit/serve/test_soak.py",
        "unit/sim/test_collect.py",
        "unit/sim/test_experts.py::test_the_expert_succeeds_from_everywhere",
        "unit/sim/test_tabletop.py::test_the_arm_is_slow_and_stays_over_the_table",
        "unit/test_docs_tables.py",
        "unit/train/optim/test_compiled_steps.py",
        "unit/train/optim/test_kernel_update.py",
        "unit/train/optim/test_precision.py",
        "unit/train/plan/test_candidates.py::test_offloaded_activations_leave_no_degree_to_choose",
        "unit/train/plan/test_compilation.py",
        "unit/train/plan/test_methods.py",
        "unit/train/plan/test_roofline.py",
        "unit/train/plan/test_step_on_shapes.py",
        "unit/train/test_calling.py::test_the_example_of_the_documentation_runs",
        "unit/train/test_config.py::test_a_configuration_survives_its_file",
        "unit/train/test_fake_cuda.py",
    }
)
