"""Which test shows that a finding fires, and which that it stays away; and a watch that sees to it that they do.

`PROOFS` names both for every finding. `tests/conftest.py` runs each test that is named here under `watched`: the one
that must trip a finding fails unless that finding was made while it ran; the one that must not fails if it was made,
or if nothing of the module that makes it was ever called.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

SOURCE = Path(__file__).resolve().parents[1] / "src" / "pi05"
CHECK, WATCH, CHECKED = "tests/unit/check/", "tests/unit/train/watchers/", "tests/unit/train/checked/"

_STRUCTURE = CHECK + "test_structure.py::"
_SOUND_SET = _STRUCTURE + "test_a_sound_set_has_nothing_but_its_size"
_STORED = CHECK + "test_stored_statistics.py::"
_COUNTS = CHECK + "test_video_counts.py::"
_OPENING = CHECK + "test_opening.py::"
_OPENS = _OPENING + "test_a_sound_set_opens_at_once"
_REFUSED = _OPENING + "test_each_fault_of_the_reader_has_a_name"
_NUMBERS = CHECK + "numbers/test_family.py::"
_WRONG = _NUMBERS + "test_what_is_wrong_is_named"
_SOUND_ROBOTS = _NUMBERS + "test_sound_recordings_trip_nothing"
_ZERO = CHECK + "numbers/test_zero.py::"
_GRIPPER = CHECK + "numbers/test_gripper.py::"
_LANGUAGE = CHECK + "test_language.py::"
_SOUND_TASKS = _LANGUAGE + "test_sound_tasks_are_counted_and_nothing_else"
_PICTURES = CHECK + "pictures/test_family.py::"
_SOUND_PICTURES = _PICTURES + "test_sound_pictures_have_nothing_to_mend"
_TIMING = CHECK + "pictures/test_timing.py::"
_PLACES = CHECK + "pictures/test_places.py::"
_BROKEN_CAMERA = _PICTURES + "test_a_broken_camera_is_an_error_in_all_episodes_and_a_warning_in_some"
_UNLIKE = _PICTURES + "test_an_episode_unlike_the_others_is_named"
_RECIPE = CHECK + "test_recipe.py::"
_SOUND_RECIPE = _RECIPE + "test_a_sound_recipe_has_notes_alone"
_NO_RECIPE = _RECIPE + "test_without_a_recipe_nothing_is_said"
_PROMPTS = CHECK + "test_prompts.py::"
_LEAKAGE = CHECK + "test_leakage.py::"
_SUBJECT = CHECKED + "test_subject.py::"
_BASE = CHECK + "test_chosen_base.py::"
_SAME_BASE = _BASE + "test_the_settings_of_the_run_itself_are_no_finding"
_OTHER = _BASE + "test_each_setting_of_the_base_that_is_another"
_FITS = _BASE + "test_statistics_of_the_same_robot_fit"
_NETWORK = CHECK + "test_network.py::"
_DAMAGE = _NETWORK + "test_each_damage_of_the_packaged_base_is_named"
_UNDAMAGED = _DAMAGE + "[nothing-names0]"
_LOOK = CHECKED + "test_base_network.py::"
_ABLATIONS = WATCH + "test_ablations.py::"
_DEAD = _ABLATIONS + "test_what_has_no_effect_is_told_in_words"
_READ = _ABLATIONS + "test_of_inputs_that_are_read_nothing_is_said"
_BATCHES = WATCH + "test_batches.py::"
_SOUND_BATCHES = _BATCHES + "test_sound_batches_are_told_nothing"
_TRENDS = WATCH + "test_trends.py::"
_WEIGHTS = WATCH + "test_weights.py::"
_SOUND_STEP = _WEIGHTS + "test_a_sound_step_moves_the_weights_a_little"

PROOFS: dict[str, tuple[str, str]] = {
    "structure.clock": (_OPENING + "test_a_bad_clock_does_not_hide_other_faults", _SOUND_SET),
    "structure.index": (_OPENING + "test_a_bad_clock_does_not_hide_other_faults", _SOUND_SET),
    "structure.tasks": (_STRUCTURE + "test_frames_that_show_another_task_than_the_list", _SOUND_SET),
    "structure.oddity": (_STRUCTURE + "test_splits_that_name_more_episodes_than_there_are", _SOUND_SET),
    "structure.late_start": (_STRUCTURE + "test_clocks_that_start_late", _SOUND_SET),
    "structure.totals": (_STRUCTURE + "test_totals_that_nothing_depends_on", _SOUND_SET),
    "structure.statistics": (_STORED + "test_statistics_of_other_data", _STORED + "test_true_statistics"),
    "structure.columns": (_STRUCTURE + "test_columns_that_are_not_there", _SOUND_SET),
    "structure.duplicates": (_STRUCTURE + "test_duplicate_episodes", _SOUND_SET),
    "structure.short_episodes": (_STRUCTURE + "test_recordings_that_were_broken_off", _SOUND_SET),
    "structure.leftovers": (_STRUCTURE + "test_files_that_no_episode_owns", _SOUND_SET),
    "structure.surplus_frames": (
        _COUNTS + "test_frames_too_many_or_too_few[8-surplus-warning]",
        _COUNTS + "test_equal_counts",
    ),
    "structure.missing_frames": (
        _COUNTS + "test_frames_too_many_or_too_few[-3-missing-error]",
        _COUNTS + "test_equal_counts",
    ),
    "structure.files": (_OPENING + "test_every_fault_is_named_and_the_rest_is_opened", _OPENS),
    "structure.interrupted": (_OPENING + "test_every_fault_is_named_and_the_rest_is_opened", _OPENS),
    "structure.camera": (_OPENING + "test_a_camera_without_videos_is_left_out", _OPENS),
    "structure.video": (_OPENING + "test_a_video_that_cannot_be_opened", _COUNTS + "test_equal_counts"),
    "structure.rows": (_REFUSED + "[structure.rows]", _OPENS),
    "structure.episodes": (_REFUSED + "[structure.episodes]", _OPENS),
    "structure.contents": (_REFUSED + "[structure.contents]", _OPENS),
    "structure.task_list": (_REFUSED + "[structure.task_list]", _OPENS),
    "language.empty": (_REFUSED + "[language.empty]", _OPENS),
    "numbers.values": (_REFUSED + "[numbers.values]", _OPENS),
    "numbers.not_finite": (_OPENING + "test_all_episodes_with_broken_numbers_are_named_at_once", _OPENS),
    "numbers.units": (_WRONG + "[degrees in half the episodes-made up]", _SOUND_ROBOTS),
    "numbers.spikes": (_WRONG + "[a far spike of the state-made up]", _SOUND_ROBOTS),
    "numbers.jumps": (_WRONG + "[a jump-made up]", _SOUND_ROBOTS),
    "numbers.idle": (_WRONG + "[idle tails-made up]", _SOUND_ROBOTS),
    "numbers.frozen_state": (_WRONG + "[a state that stands still within episodes-made up]", _SOUND_ROBOTS),
    "numbers.stale_first": (_WRONG + "[stale first frames-made up]", _SOUND_ROBOTS),
    "numbers.noise": (_WRONG + "[a dimension of noise-made up]", _SOUND_ROBOTS),
    "numbers.calibration": (_WRONG + "[another calibration in half the episodes-made up]", _SOUND_ROBOTS),
    "numbers.zero": (_ZERO + "test_a_joint_with_another_zero_since_some_episode", _SOUND_ROBOTS),
    "numbers.action_is_state": (_WRONG + "[the state as the action-made up]", _SOUND_ROBOTS),
    "numbers.order": (_WRONG + "[another order of the joints-made up]", _SOUND_ROBOTS),
    "numbers.action_units": (_WRONG + "[actions in degrees-made up]", _SOUND_ROBOTS),
    "numbers.wrap": (_WRONG + r"[an angle around \xb1\u03c0-made up]", _SOUND_ROBOTS),
    "numbers.constant": (_NUMBERS + "test_a_dimension_that_never_changes_is_a_note", _SOUND_ROBOTS),
    "numbers.gripper": (
        _GRIPPER + "test_a_gripper_is_told_with_its_values",
        _GRIPPER + "test_a_robot_without_a_gripper",
    ),
    "numbers.gripper_sign": (_GRIPPER + "test_another_sign_in_some_episodes", _SOUND_ROBOTS),
    "numbers.gripper_scale": (_GRIPPER + "test_another_scale_in_some_episodes", _SOUND_ROBOTS),
    "language.one_task": (_LANGUAGE + "test_one_task_is_worth_a_note", _SOUND_TASKS),
    "language.placeholder": (_LANGUAGE + "test_placeholders", _SOUND_TASKS),
    "language.truncated": (_LANGUAGE + "test_cut_off_texts", _SOUND_TASKS),
    "language.spellings": (_LANGUAGE + "test_one_task_in_several_spellings", _SOUND_TASKS),
    "language.underscores": (_LANGUAGE + "test_underscores", _SOUND_TASKS),
    "language.characters": (_LANGUAGE + "test_characters_that_no_text_has", _SOUND_TASKS),
    "language.unused_tasks": (
        _LANGUAGE + "test_texts_that_no_frame_shows_are_named_where_all_episodes_are_used",
        _SOUND_TASKS,
    ),
    "pictures.unreadable": (
        _PICTURES + "test_a_video_that_cannot_be_decoded_is_named_and_the_others_are_looked_at",
        _SOUND_PICTURES,
    ),
    "pictures.empty": (_BROKEN_CAMERA + "[episodes0-pictures.empty]", _SOUND_PICTURES),
    "pictures.frozen": (_BROKEN_CAMERA + "[episodes0-pictures.frozen]", _SOUND_PICTURES),
    "pictures.same_camera": (_BROKEN_CAMERA + "[episodes0-pictures.same_camera]", _SOUND_PICTURES),
    "pictures.gaps": (_PICTURES + "test_moments_without_a_picture", _SOUND_PICTURES),
    "pictures.brightness": (_UNLIKE + "[<lambda>-pictures.brightness-darker]", _SOUND_PICTURES),
    "pictures.colour": (_UNLIKE + "[<lambda>-pictures.colour-red and blue]", _SOUND_PICTURES),
    "pictures.exchanged": (
        _PLACES + "test_episodes_with_exchanged_cameras_are_named[episodes0]",
        _PLACES + "test_nothing_is_said_of_what_is_sound_the_same_throughout_or_too_little[episodes0-6]",
    ),
    "pictures.orientation": (_UNLIKE + "[<lambda>-pictures.orientation-upside down]", _SOUND_PICTURES),
    "pictures.slots": (_PICTURES + "test_wrist_and_scene_exchanged", _SOUND_PICTURES),
    "pictures.unlike_base": (
        CHECK + "pictures/test_beside_base.py::test_pictures_that_are_turned_or_of_other_colours_in_all_episodes",
        CHECK + "pictures/test_beside_base.py::test_the_same_camera_is_no_finding",
    ),
    "pictures.late": (
        _TIMING + "test_pictures_of_another_moment_are_told_with_their_frames",
        _TIMING + "test_pictures_of_their_own_moment",
    ),
    "pictures.in_time": (
        _TIMING + "test_pictures_of_their_own_moment",
        _TIMING + "test_pictures_of_another_moment_are_told_with_their_frames",
    ),
    "pictures.motion": (_SOUND_PICTURES, _PICTURES + "test_wrist_and_scene_exchanged"),
    "recipe.relative_actions": (
        _RECIPE + "test_relative_actions_of_velocities_are_refused",
        _SOUND_RECIPE + "[relative1]",
    ),
    "recipe.action_lag": (_RECIPE + "test_late_actions_are_told_with_their_frames", _SOUND_RECIPE),
    "recipe.range_state": (_RECIPE + "test_identity_normalisation_of_degrees", _SOUND_RECIPE),
    "recipe.range_action": (_RECIPE + "test_identity_normalisation_of_degrees", _SOUND_RECIPE),
    "recipe.far_action": (
        _RECIPE + "test_single_values_far_outside[2-True]",
        _RECIPE + "test_single_values_far_outside[1-False]",
    ),
    "recipe.prompt_too_long": (
        _PROMPTS + "test_a_prompt_too_long_is_an_error_and_one_that_may_become_so_a_warning",
        _SOUND_RECIPE,
    ),
    "recipe.prompt_may_be_too_long": (
        _PROMPTS + "test_a_prompt_too_long_is_an_error_and_one_that_may_become_so_a_warning",
        _PROMPTS + "test_every_format_is_counted",
    ),
    "recipe.prompt_lost": (
        _PROMPTS + "test_words_that_the_tokenizer_does_not_know_are_lost",
        _PROMPTS + "test_every_format_is_counted",
    ),
    "recipe.prompt": (
        _PROMPTS + "test_every_format_is_counted",
        _PROMPTS + "test_of_a_tokenizer_that_is_not_known_nothing_is_counted",
    ),
    "recipe.held_out_twice": (_LEAKAGE + "test_a_copy_on_both_sides_is_named", _SOUND_RECIPE),
    "recipe.base_saw_held_out": (
        _LEAKAGE + "test_a_base_that_saw_what_is_held_out[360-trained0-True]",
        _LEAKAGE + "test_a_base_that_saw_what_is_held_out[360-trained2-False]",
    ),
    "recipe.open_loop": (
        _RECIPE + "test_longer_than_a_second_without_a_look[11-True]",
        _RECIPE + "test_longer_than_a_second_without_a_look[10-False]",
    ),
    "recipe.chunk": (_SOUND_RECIPE, _RECIPE + "test_longer_than_a_second_without_a_look[11-True]"),
    "recipe.padding": (
        _RECIPE + "test_chunks_longer_than_the_episodes[90-True]",
        _RECIPE + "test_chunks_longer_than_the_episodes[50-False]",
    ),
    "recipe.representation": (_SOUND_RECIPE, _NO_RECIPE),
    "recipe.action_kind": (_SOUND_RECIPE, _NO_RECIPE),
    "recipe.slots": (_SOUND_RECIPE, _NO_RECIPE),
    "recipe.contents": (
        _SUBJECT + "test_a_recipe_that_does_not_fit_is_a_finding_and_the_data_are_checked",
        _SUBJECT + "test_a_sound_set_has_a_recipe_and_a_base",
    ),
    "recipe.tokenizer": (
        _SUBJECT + "test_without_a_base_nobody_counts_tokens_of_a_strange_tokenizer",
        _SUBJECT + "test_a_sound_set_has_a_recipe_and_a_base",
    ),
    "base.statistics_state": (_BASE + "test_another_unit_is_told_as_what_it_is", _FITS),
    "base.statistics_action": (_BASE + "test_another_unit_is_told_as_what_it_is", _FITS),
    "base.robot": (_BASE + "test_another_robot_is_a_note_where_its_statistics_are_not_used", _FITS),
    "base.resize": (_OTHER + "[base.resize]", _SAME_BASE),
    "base.prompt_format": (_OTHER + "[base.prompt_format]", _SAME_BASE),
    "base.representation": (_OTHER + "[base.representation]", _SAME_BASE),
    "base.slots": (_OTHER + "[base.slots]", _SAME_BASE),
    "base.new_slots": (_OTHER + "[base.new_slots]", _SAME_BASE),
    "base.tokenizer": (_OTHER + "[base.tokenizer]", _SAME_BASE),
    "base.rate": (_OTHER + "[base.rate]", _SAME_BASE),
    "base.edited": (_BASE + "test_a_base_whose_config_was_edited", _SAME_BASE),
    "base.loss": (_DAMAGE + "[shuffle-names4]", _UNDAMAGED),
    "base.not_finite": (_NETWORK + "test_a_loss_that_is_not_finite_is_said_to_be", _UNDAMAGED),
    "base.embedding_scale": (_DAMAGE + "[damage-names1]", _UNDAMAGED),
    "base.vision_dead": (_DAMAGE + "[blind-names3]", _UNDAMAGED),
    "base.pictures_without_effect": (_DAMAGE + "[close-names6]", _UNDAMAGED),
    "base.prompt_without_effect": (_DAMAGE + "[close-names6]", _UNDAMAGED),
    "base.knows_turned_pictures": (
        CHECK + "test_turned_pictures.py::test_a_scene_that_is_turned_in_all_episodes_is_named[upside down]",
        CHECK + "test_turned_pictures.py::test_pictures_as_the_base_knows_them_are_no_finding",
    ),
    "base.not_measured": (
        _LOOK + "test_a_large_base_is_not_run_on_a_cpu",
        _LOOK + "test_the_packaged_base_is_sound",
    ),
    "inputs.camera": (_DEAD + "[camera top-2-inputs.camera-warning]", _READ),
    "inputs.state": (_DEAD + "[state-2-inputs.state-warning]", _READ),
    "inputs.task": (_DEAD + "[task-2-inputs.task-warning]", _READ),
    "inputs.nothing-read": (_ABLATIONS + "test_a_policy_that_reads_nothing_is_told_once", _READ),
    "range.action": (_BATCHES + "test_values_out_of_range_are_named", _SOUND_BATCHES),
    "range.state": (_BATCHES + "test_states_in_other_units_are_named", _SOUND_BATCHES),
    "loss.dimension": (_BATCHES + "test_one_dimension_that_makes_the_loss_is_named", _SOUND_BATCHES),
    "loss.spike": (_BATCHES + "test_a_spike_is_told_with_the_samples_that_make_it", _SOUND_BATCHES),
    "held-out.rising": (
        _TRENDS + "test_an_error_that_rises_while_the_loss_falls_is_told_with_the_best_step",
        _TRENDS + "test_sound_runs_are_told_nothing",
    ),
    "learning-rate.off-plan": (
        _TRENDS + "test_a_step_at_another_rate_than_planned_is_an_error",
        _TRENDS + "test_steps_at_the_planned_rate_are_told_nothing",
    ),
    "average.slow": (
        _TRENDS + "test_an_average_slower_than_the_run_is_told",
        _TRENDS + "test_an_average_that_is_slow_now_and_not_at_the_end",
    ),
    "weights.still": (
        _WEIGHTS + "test_rates_that_do_nothing_or_too_much_are_told[1e-09-weights.still]",
        _SOUND_STEP,
    ),
    "weights.update-size": (
        _WEIGHTS + "test_rates_that_do_nothing_or_too_much_are_told[0.3-weights.update-size]",
        _SOUND_STEP,
    ),
    "weights.part-still": (_WEIGHTS + "test_a_part_that_stays_is_named", _SOUND_STEP),
    "adapter.small": (
        _WEIGHTS + "test_small_adapters_are_told_when_they_had_time",
        _WEIGHTS + "test_adapters_that_grow_or_are_young_are_told_nothing",
    ),
}
"""Finding → the test that must trip it, the test that must not. Without [parameters] all cases of a test are meant."""

_FINGERPRINT = "tests/unit/checkpoint/own/test_fingerprint.py::"
CHECKPOINT_PROOFS: dict[str, tuple[str, str]] = {
    "a config that was edited after training": (
        _FINGERPRINT + "test_a_policy_with_an_edited_config_is_refused_until_it_is_accepted",
        _FINGERPRINT + "test_what_changes_no_action_may_be_edited",
    ),
    "another version of pi05": (
        _FINGERPRINT + "test_another_version_of_pi05_is_told",
        _FINGERPRINT + "test_an_untouched_checkpoint_of_this_version_loads_without_a_word",
    ),
    "pictures that stand otherwise than in training, when the policy is used": (
        "tests/unit/test_policy.py::test_a_picture_that_stands_otherwise_than_in_training_is_told_once",
        "tests/unit/test_policy.py::test_a_picture_as_in_training_is_answered_by_a_strict_policy",
    ),
    "statistics that no data can have": (
        _FINGERPRINT + "test_statistics_that_no_data_can_have_are_refused",
        _FINGERPRINT + "test_an_untouched_checkpoint_of_this_version_loads_without_a_word",
    ),
}
"""What `Policy.load` and `pi05 inspect` refuse or say of a checkpoint: no findings, so these are not watched."""

_BUILDERS = {"error", "warning", "note", "Finding", "_broken"}
LOOKED_AT = ("check", "train/checked", "train/watchers")


@cache
def makers() -> dict[str, frozenset[Path]]:
    """Return finding → the modules in whose code its name stands; `*` in a name is what is only known when it runs."""
    found: defaultdict[str, set[Path]] = defaultdict(set)
    for folder in LOOKED_AT:
        for file in sorted((SOURCE / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and node.args and _called(node) in _BUILDERS:
                    name = _text(node.args[0])
                    if name is not None:
                        found[name].add(file)
    return {name: frozenset(files) for name, files in found.items()}


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _text(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
    return None


@contextmanager
def watched(test: str) -> Iterator[None]:
    """Fail where the test that runs does not do what `PROOFS` says of it."""
    names = {test, test.partition("[")[0]}
    trips = {finding for finding, (one, _) in PROOFS.items() if one in names}
    spares = {finding for finding, (_, one) in PROOFS.items() if one in names}
    if not trips and not spares:
        yield
        return
    with recorded() as (made, called):
        yield
    assert trips <= made, f"{test} shall trip {sorted(trips - made)}"
    assert not spares & made, f"{test} shall not trip {sorted(spares & made)}"
    idle = {finding for finding in spares if not called & set(map(str, modules_of(finding)))}
    assert not idle, f"{test} runs nothing that could have tripped {sorted(idle)}"


def modules_of(finding: str) -> frozenset[Path]:
    """Return the modules that make a finding; those that refuse in the reader's words, for a name that no code has."""
    known = makers()
    if finding in known:
        return known[finding]
    family, _, what = finding.partition(".")
    patterns = [name for name in known if "*" in name and finding.startswith(name.partition("*")[0])]
    if patterns:
        return frozenset().union(*(known[name] for name in patterns))
    beside = {"structure": ("structure", "opening", "video_counts")}.get(family, ("opening",))
    places = [SOURCE / "check" / f"{name}.py" for name in beside]
    return frozenset([*places, SOURCE / "train" / "checked" / "subject.py"] if what == "contents" else places)


@contextmanager
def recorded() -> Iterator[tuple[set[str], set[str]]]:
    """Collect the names of all findings that are made, and the files of all functions that are called, meanwhile."""
    from pi05.finding import Finding

    made: set[str] = set()
    called: set[str] = set()
    build: Callable[..., None] = Finding.__init__

    def building(self: Finding, *values: Any, **named: Any) -> None:
        build(self, *values, **named)
        if self.status != "ok":
            made.add(self.name)

    def calling(frame: FrameType, event: str, value: object) -> None:
        if event == "call":
            called.add(frame.f_code.co_filename)

    before = sys.getprofile()
    Finding.__init__ = building  # type: ignore[method-assign]
    sys.setprofile(calling)
    try:
        yield made, called
    finally:
        sys.setprofile(before)
        Finding.__init__ = build  # type: ignore[method-assign]
