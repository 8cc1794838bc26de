"""Settings of `pi05 serve`. No torch; the path of a field is its flag (`policy.path` is `--policy.path`)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pi05.settings.schema import Checked

Chunking = Literal["synchronous", "guided", "trained"]
"""How a chunk continues the one before it."""
KEY_VARIABLE = "PI05_SERVE_KEY"
"""Environment variable with the key of server and client, where no file is named."""


@dataclass(frozen=True, kw_only=True)
class ServePolicyConfig(Checked):
    """Which policy, and how it is run."""

    FLAG_PREFIX: ClassVar[str] = "policy."

    path: str | None = None
    """A run folder, which means its last checkpoint, or a checkpoint folder of pi05, LeRobot or openpi."""
    tokenizer_path: str | None = None
    """Tokenizer file or folder, for a LeRobot or openpi folder that holds none."""
    chunk_size: int | None = None
    """Actions predicted at once, for an openpi folder, which does not tell it."""
    device: str = "auto"
    """Where the network runs: cpu, cuda, cuda:N, or auto, which is CUDA where there is a GPU."""
    n_action_steps: int | None = None
    """Actions of each chunk that clients are told to execute before they ask again; as trained when not given."""
    num_inference_steps: int = 10
    """Euler steps from noise to actions, 1 or more."""

    def _limits(self) -> None:
        device = re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device)
        self._require(device is not None, "device", "auto, cpu, cuda or cuda:N")
        self._at_least(1, "n_action_steps", "num_inference_steps", "chunk_size")


@dataclass(frozen=True, kw_only=True)
class ServeConfig(Checked):
    """One server."""

    policy: ServePolicyConfig = field(default_factory=ServePolicyConfig)
    prompt_format: Literal["state", "state32", "none"] | None = None
    """State in the prompt, for a LeRobot or openpi folder that does not tell: as it is, padded to 32 numbers, or not at
    all."""
    rename_map: dict[str, str] = field(default_factory=dict)
    """Camera of the robot → camera of the policy, or its slot: scene, left_wrist, right_wrist."""
    asset_id: str | None = None
    """Which statistics of an openpi folder that holds several."""
    adapt_to_pi: bool | None = None
    """Of an openpi folder with ALOHA's 14 numbers: false when it was trained without openpi's joint flip and gripper
    map, which pi05 does not have."""
    host: str = "127.0.0.1"
    """Address to listen on; another one than this machine's loopback only with a key."""
    port: int = 8000
    """Port to listen on, 0 to 65535; 0 takes a free one and prints it."""
    key_file: str | None = None
    """File with the key that clients must send; when not given the variable PI05_SERVE_KEY. Without both nobody needs
    one."""
    tls_cert: str | None = None
    """Certificate in PEM form, with its chain: connections are encrypted then (wss://)."""
    tls_key: str | None = None
    """Private key of the certificate, in PEM form."""
    chunking: Chunking = "synchronous"
    """What a chunk knows of the one that the robot carries out while it is computed (docs/rtc.md).
    - synchronous: nothing.
    - guided: it is steered to continue it, where the client tells its delay; for any policy, at up to three times the
      time.
    - trained: it is told what is carried out meanwhile; for a policy of --rtc_max_delay."""
    strict: bool = False
    """Refuse a state outside of the training range, instead of warning of it."""
    max_batch: int = 8
    """Observations of several clients that the network sees at once, 1 or more; 1 turns batching off."""
    batch_wait_ms: float = 5.0
    """Milliseconds that an observation waits at most for others while the network is idle, 0 to 1000."""
    max_clients: int = 32
    """Connections at a time, 1 or more; further ones are answered with 503."""
    max_requests_per_s: float = 100.0
    """Messages per second that one connection may send, on average over a second, more than 0."""
    max_message_mib: float = 32.0
    """Size of the largest message, in MiB, more than 0; a larger one closes its connection with code 1009."""
    idle_timeout_s: float = 3600.0
    """Seconds without a message after which a connection is closed, more than 0."""
    threads: int | None = None
    """CPU threads of the network, 1 or more; PyTorch's choice when not given."""
    selftest: bool = False
    """Start, ask oneself with the run's stored observations, compare with Policy.infer bit for bit, and end."""

    def _limits(self) -> None:
        self._require(0 <= self.port <= 65535, "port", "0 to 65535")
        self._at_least(1, "max_batch", "max_clients", "threads")
        self._require(0 <= self.batch_wait_ms <= 1000, "batch_wait_ms", "0 to 1000")
        for name in ("max_requests_per_s", "max_message_mib", "idle_timeout_s"):
            self._require(getattr(self, name) > 0, name, "more than 0")
        both = (self.tls_cert is None) == (self.tls_key is None)
        self._require(both, "tls_cert", "given together with --tls_key", "give both, or neither")

    @property
    def loopback(self) -> bool:
        """Whether only programs on this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name
            return False

    @property
    def max_message_bytes(self) -> int:
        """Size of the largest message, in bytes."""
        return int(self.max_message_mib * (1 << 20))
