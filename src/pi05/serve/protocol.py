"""What a policy needs and answers, as the server tells it on connecting and the client checks it. No torch, no NumPy.

The first frame of every connection is one map for all clients: openpi's read any map, StarVLA's want
`action_chunk_size`, vla-eval's take it for the answer to their hello. It holds no arrays, so that all dialects read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pi05.data.robot.control_rate import same_rate
from pi05.errors import ServeError

PROTOCOL, VERSION = "pi05", 1
PATHS = ("/", "/openpi/policy", "/v1/realtime/robot/openpi")
"""Where policies are asked for: openpi's path, SGLang's, vLLM-Omni's. They all mean the same here."""
HEALTH, METRICS = ("/healthz", "/health"), "/metrics"
UNITS = "as recorded in the training data"


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One picture that an observation must hold."""

    name: str
    slot: str
    """scene, left_wrist or right_wrist."""
    size: tuple[int, int] | None = None
    """Height and width in the training data, in pixels, where the checkpoint tells them."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The robot's state, or its action."""

    dim: int
    names: tuple[str, ...] = ()
    low: tuple[float, ...] | None = None
    """Lowest values of the training data, or its 1 % quantiles; of relative actions those of the difference."""
    high: tuple[float, ...] | None = None
    columns: tuple[tuple[str, int], ...] = ()
    """Names and sizes of the columns that were joined, which an observation may hold instead."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Everything that a robot's program has to agree with a policy on."""

    cameras: tuple[Camera, ...]
    dropped_cameras: tuple[str, ...] = ()
    """Cameras that may be sent and are not looked at."""
    image_size: int
    """Side of the square that the network sees, in pixels; pictures of it are never resized."""
    state: Numbers
    needs_state: bool = True
    action: Numbers
    relative: tuple[bool, ...] | None = None
    """Action dimensions that the network predicts relative to the state; actions are sent as absolute values."""
    control_rate_hz: float | None = None
    horizon: int
    n_action_steps: int
    """Actions of a chunk to execute before the policy looks again."""
    num_inference_steps: int = 10
    chunking: str = "synchronous"
    """How chunks continue the ones before them where a client tells its delay: synchronous (they do not, and a delay is
    refused), guided or trained."""
    max_delay: int | None = None
    """Longest delay that the policy was trained to continue, in control steps; None: whatever is left of a chunk."""
    warm_s: float | None = field(default=None, compare=False)
    """Seconds that one answer took when the server started, transport left out."""
    prompt_format: str = "state"
    strict: bool = False
    """Whether a state outside of the training range is refused, and a picture that is turned, mirrored or red for blue
    against those of the training; otherwise they are warned of."""
    checkpoint: str = ""
    """SHA-256 of the weights."""
    step: int | None = None
    """Training step of the checkpoint, where it is known."""
    server: str = ""

    def to_metadata(self) -> dict[str, Any]:
        """Return the first frame of a connection."""
        return {
            "type": "hello",
            "seq": 0,
            "timestamp": 0.0,
            "payload": {"model_server": self.server, "protocol_version": 1, "capabilities": {}, **self._vla_eval()},
            "action_chunk_size": self.n_action_steps,
            "action_keys": list(self.action.names),
            "state_keys": list(self.state.names),
            "training_obs_image_size": [self.image_size, self.image_size],
            "available_unnorm_keys": [PROTOCOL],
            "default_unnorm_key": PROTOCOL,
            "protocol": PROTOCOL,
            "protocol_version": VERSION,
            "units": UNITS,
            "image_layout": "uint8, height × width × RGB, 0 to 255",
            "representation": "absolute" if self.relative is None else "absolute, predicted relative to the state",
            "contract": _plain(asdict(self)),
        }

    def _vla_eval(self) -> dict[str, Any]:
        """Return what vla-eval asks a model server for: it sends neither state nor wrist picture unless told so."""
        wrists = any(camera.slot != "scene" for camera in self.cameras)
        return {
            "observation_params": {"send_wrist_image": wrists, "send_state": self.needs_state},
            "action_spec": {},
            "observation_spec": {},
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Contract:
        """Read the first frame of a server. Raises ServeError where it is no server of pi05, or a newer one."""
        values = metadata.get("contract")
        if metadata.get("protocol") != PROTOCOL or not isinstance(values, Mapping):
            raise ServeError(
                "the server does not say what its policy needs",
                wanted="a server that pi05 serve started",
                found=", ".join(sorted(map(str, metadata)))[:200] or "an empty first message",
                remedy="check the address; openpi's own servers are asked with openpi's client",
            )
        if metadata.get("protocol_version") != VERSION:
            raise ServeError(
                "the server speaks another version of the protocol",
                wanted=str(VERSION),
                found=str(metadata.get("protocol_version")),
                remedy="install the same pi05 on both machines",
            )
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        cameras = tuple(Camera(**{**one, "size": _tuple(one.get("size"))}) for one in values["cameras"])
        vectors = {name: _numbers(values[name]) for name in ("state", "action")}
        lists = {"dropped_cameras": tuple(values["dropped_cameras"]), "relative": _tuple(values.get("relative"))}
        return cls(**{**known, **vectors, **lists, "cameras": cameras})

    def require(
        self,
        *,
        cameras: Sequence[str] | None = None,
        state_names: Sequence[str] | None = None,
        action_names: Sequence[str] | None = None,
        control_rate_hz: float | None = None,
    ) -> None:
        """Raise ServeError where a robot's program does not fit the policy; what is None is not compared.

        Cameras may be named without `observation.images.`, and are compared without their order. Names of joints are
        compared in order, where the checkpoint tells them. The rate may be 5 % off.
        """
        if cameras is not None:
            found, wanted = sorted(map(short_name, cameras)), sorted(short_name(one.name) for one in self.cameras)
            allowed = set(wanted) | {short_name(name) for name in self.dropped_cameras}
            if not (set(wanted) <= set(found) <= allowed):
                raise _unfit("cameras", ", ".join(wanted), ", ".join(found))
        for what, given, mine in (
            ("state", state_names, self.state.names),
            ("action", action_names, self.action.names),
        ):
            if given is not None and mine and tuple(given) != mine:
                raise _unfit(f"{what} dimensions", ", ".join(mine), ", ".join(given))
        if control_rate_hz is not None:
            require_rate(control_rate_hz, self.control_rate_hz)


def require_rate(hz: float, wanted_hz: float | None) -> None:
    """Raise ServeError where a robot is controlled at another rate than it was trained at."""
    if wanted_hz is not None and not same_rate(hz, wanted_hz):
        raise _unfit("control rate", f"{wanted_hz:g} Hz, within 5 %", f"{hz:g} Hz")


def short_name(camera: str) -> str:
    """Return a camera's name without the prefix that LeRobot gives it."""
    return camera.removeprefix("observation.images.")


def _unfit(what: str, wanted: str, found: str) -> ServeError:
    return ServeError(
        f"the robot does not fit the policy: {what}",
        wanted=wanted,
        found=found,
        remedy="run the policy on the robot, with the cameras and at the rate, that its demonstrations come from",
    )


def _numbers(values: Mapping[str, Any]) -> Numbers:
    return Numbers(
        dim=values["dim"],
        names=tuple(values["names"]),
        low=_tuple(values.get("low")),
        high=_tuple(values.get("high")),
        columns=tuple((name, size) for name, size in values.get("columns", ())),
    )


def _tuple(values: Any) -> Any:
    return None if values is None else tuple(values)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
