"""What a folder must tell to be a policy, what the caller may add to it, and what came of both.

Shared by the readers of LeRobot's and openpi's folders; neither format is known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pi05.data.cameras import DROP, OPENPI_SLOTS, SLOTS, CameraSlots
from pi05.data.processor import Processor
from pi05.data.prompt import PROMPT_FORMATS, PromptFormat
from pi05.data.tokenizer import FILE_NAMES, Tokenizer
from pi05.data.vocabulary import difference_from_paligemma
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig
from pi05.sources.resolve import is_name, resolve
from pi05.types import IMAGE_PREFIX


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """What the caller tells where a folder does not; None means that the folder has to tell."""

    prompt_format: str | None = None
    rename_map: Mapping[str, str] | None = None
    """Robot's camera → the policy's camera, or its slot."""
    asset_id: str | None = None
    """openpi: which statistics of several."""
    horizon: int | None = None
    """openpi: actions in a chunk."""
    relative_mask: tuple[bool, ...] | None = None
    """openpi: action dimensions that are relative to the state."""
    adapt_to_pi: bool | None = None
    """openpi: whether its ALOHA transforms flip joints and map the gripper (`openpi/aloha.py`)."""
    tokenizer_path: str | Path | None = None
    accept_edited: tuple[str, ...] = ()
    """pi05: fields of config.json that may differ from its fingerprint."""

    def __post_init__(self) -> None:
        if self.prompt_format is not None and self.prompt_format not in PROMPT_FORMATS:
            raise CheckpointError(
                "the prompt format is unknown",
                wanted=" or ".join(PROMPT_FORMATS),
                found=repr(self.prompt_format),
                remedy="choose one with prompt_format",
            )

    def require_unused(self, *names: str) -> None:
        """Raise CheckpointError for an option that this kind of folder tells itself."""
        for name in names:
            if getattr(self, name) is not None:
                raise CheckpointError(
                    f"{name} cannot be told here: the folder tells it",
                    wanted=f"no {name}; it is for openpi's folders",
                    found=f"{name}={getattr(self, name)}",
                    remedy=f"leave {name} out",
                )


@dataclass(frozen=True, kw_only=True)
class ProcessorSource:
    """The transforms of a policy, and what was decided about them that a user should read."""

    processor: Processor
    n_action_steps: int | None = None
    """Actions of a chunk to execute, where the folder tells."""
    max_delay: int = 0
    """Committed actions that training has drawn are fewer than this; 0: it had none, or the folder does not tell."""
    notes: list[str] = field(default_factory=list)


def as_prompt_format(value: object, where: str) -> PromptFormat:
    """Return a prompt format that a file told. Raises CheckpointError when it is none."""
    for known in PROMPT_FORMATS:
        if value == known:
            return known
    raise CheckpointError(
        f"{where} names an unknown prompt format",
        wanted=" or ".join(PROMPT_FORMATS),
        found=repr(value),
        remedy="upgrade pi05, or tell the format with prompt_format",
    )


def rename_cameras(slots: CameraSlots, rename_map: Mapping[str, str], aliases: Mapping[str, str]) -> CameraSlots:
    """Return the slots with the robot's names for cameras: robot's camera → policy's camera, slot, or "drop".

    `aliases` holds further names of the policy's cameras (name → slot). Names may leave out `observation.images.`. A
    camera that is dropped, by either name, or sent elsewhere leaves its slot empty. Raises CheckpointError for a target
    that the policy does not have, for two cameras in one slot, and when no camera is left.
    """
    robots = {key: slot for slot, key in slots.by_slot.items() if key is not None}
    known = robots | dict(aliases)
    known |= {IMAGE_PREFIX + name: slot for slot, name in OPENPI_SLOTS.items() if IMAGE_PREFIX + name not in known}
    known |= {IMAGE_PREFIX + slot: slot for slot in SLOTS if IMAGE_PREFIX + slot not in known}
    placed: dict[str, str] = {}
    for robot, target in rename_map.items():
        if target == DROP:
            continue
        slot = known.get(_full(target))
        if slot is None or slot in placed:
            cameras = ", ".join(f"{key} ({slot})" for slot, key in slots.by_slot.items() if key is not None)
            raise CheckpointError(
                f"--rename_map sends the camera {robot} to {target}, which "
                + ("has a camera already" if slot is not None else "this policy does not have"),
                wanted=f"one of the policy's cameras, once each: {cameras or ', '.join(SLOTS)}",
                found=f"{robot} → {target}",
                remedy="correct --rename_map: the robot's camera on the left, the policy's camera on the right",
            )
        placed[slot] = _full(robot)
    gone = {_full(robot) for robot, target in rename_map.items() if target == DROP}
    emptied = {robots.get(name, known.get(name)) for name in gone}
    kept = {
        slot: None if slot in emptied or key in placed.values() else key for slot, key in slots.by_slot.items()
    } | placed
    dropped = dict.fromkeys([*slots.dropped, *(_full(robot) for robot in rename_map if _full(robot) in gone)])
    dropped |= dict.fromkeys(key for slot, key in slots.by_slot.items() if key is not None and kept[slot] is None)
    renamed = CameraSlots(**kept, dropped=tuple(name for name in dropped if name not in kept.values()))
    if rename_map and not renamed.keys:
        raise CheckpointError(
            "--rename_map leaves the policy no camera",
            wanted=f"at least one of {', '.join(slots.keys) or ', '.join(SLOTS)}",
            found=", ".join(f"{robot} → {target}" for robot, target in rename_map.items()),
            remedy="keep one of them",
        )
    return renamed


def _full(name: str) -> str:
    return name if name.startswith(IMAGE_PREFIX) else IMAGE_PREFIX + name


def find_tokenizer(folder: Path, name: str | None, given: str | Path | None, sizes: ModelConfig) -> Tokenizer:
    """Load the tokenizer of a foreign folder.

    The given one goes first. Then `name` is tried as a path inside the folder, as an absolute path and from the working
    directory; then the one in the folder or its `tokenizer/`; last, `name` as a name on the hub (`sources/resolve.py`).
    Raises CheckpointError when there is none, its ids do not fit the network, or those of a network of full size are
    not PaliGemma's.
    """
    if given is not None:
        tokenizer = Tokenizer.load(given)
    else:
        named = [folder / name, Path(name)] if name else []
        places = [*named, folder, folder / "tokenizer"]
        found = [place for place in places if any((place / file).is_file() for file in FILE_NAMES) or _is_file(place)]
        if not found and name is not None and is_name(name, "tokenizer"):
            found = [resolve(name, "tokenizer")]
        if not found:
            raise CheckpointError(
                f"there is no tokenizer for {folder}",
                wanted="tokenizer.json or tokenizer.model in it, or in its folder tokenizer/",
                found=f"the name {name!r}, which is no local path" if name else "none",
                remedy="pi05 fetch tokenizer, then --policy.tokenizer_path=paligemma_model; or copy one there",
            )
        tokenizer = Tokenizer.load(found[0])
    if tokenizer.vocab_size > sizes.vocab_size:
        raise CheckpointError(
            "the tokenizer does not belong to this network",
            wanted=f"at most {sizes.vocab_size:,} ids, the rows of the token embedding",
            found=f"{tokenizer.vocab_size:,} in {tokenizer.path}",
            remedy="give the tokenizer that the policy was trained with",
        )
    if sizes.vocab_size == ModelConfig().vocab_size and (other := difference_from_paligemma(tokenizer)) is not None:
        raise CheckpointError(
            f"{tokenizer.path} is not PaliGemma's tokenizer, with which networks of this size were trained",
            wanted=f"{other.wanted} for {other.text!r}",
            found=str(other.found),
            remedy="pi05 fetch tokenizer, then --policy.tokenizer_path=paligemma_model",
        )
    return tokenizer


def _is_file(path: Path) -> bool:
    return path.name in FILE_NAMES and path.is_file()
