"""What the JSON files of a LeRobot policy may hold: `config.json` and the two pipelines of processors.

Read by `read_fields` of `checkpoint/file_fields.py`; a field that is left out is not used.
"""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from pi05.checkpoint.file_fields import Modes, Names, Shape, Size, Step
from pi05.settings.fields import Within


class Feature(TypedDict, total=False):
    """One input or output of a LeRobot policy."""

    type: str
    shape: Shape


class LerobotConfig(TypedDict, total=False):
    """`config.json` of LeRobot."""

    type: str
    input_features: dict[str, Feature] | None
    output_features: dict[str, Feature] | None
    chunk_size: Size
    n_action_steps: Size | None
    tokenizer_max_length: Size
    image_resolution: Annotated[list[Size], Within(2, 2)] | None
    normalization_mapping: Modes | None
    use_relative_actions: bool
    action_feature_names: Names | None
    use_peft: bool
    rtc_training_max_delay: Step | None
    use_visual_memory: bool | None
    use_proprioceptive_memory: bool | None


class StepSettings(TypedDict, total=False):
    """The settings of a step of LeRobot's pipelines; which step may have which is `lerobot/steps.py`'s."""

    rename_map: dict[str, str] | None
    enabled: bool
    exclude_joints: Names | None
    action_names: Names | None
    eps: Annotated[float, Within(0, 1)]
    features: dict[str, Feature] | None
    norm_map: Modes
    normalize_observation_keys: Names | None
    max_state_dim: Size
    task_key: str
    max_length: Size
    padding_side: str
    padding: str | bool
    truncation: bool
    tokenizer_name: str | None
    device: str | None
    float_dtype: str | None


class PipelineStep(TypedDict, total=False):
    """One step of a pipeline. `class` names one of a kind that nobody registered."""

    registry_name: str | None
    config: StepSettings | None
    state_file: str | None


class Pipeline(TypedDict, total=False):
    """`policy_preprocessor.json` and `policy_postprocessor.json` of LeRobot."""

    steps: Required[list[PipelineStep]]
