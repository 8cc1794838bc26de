"""Settings of `pi05 serve`. No torch; the path of a field is its flag (`policy.path` is `--policy.path`).

Which policy is a setting of `policy_choice.py`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal

from pi05.policy_choice import PolicyChoice

Chunking = Literal["synchronous", "guided", "trained"]
"""How a chunk continues the one before it."""
Precision = Literal["float32", "bfloat16", "int8"]
"""As `model/inference.py` has it, without torch."""
KEY_VARIABLE = "PI05_SERVE_KEY"
"""Environment variable with the key of server and client, where no file is named."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig(PolicyChoice):
    """One server."""

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
    """Refuse a state outside of the training range, pictures that are turned, mirrored, red for blue or of another
    camera against those of the training, and an instruction that it did not have, instead of warning of them."""
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
    precision: Precision | None = None
    """Of the network (docs/rtc.md); when not given matrices in float32, and arithmetic in float32 on a CPU, in bfloat16
    on a GPU.
    - float32, bfloat16: of matrices and arithmetic.
    - int8: of the matrices, to need less memory; slower."""
    compile_model: bool = False
    """Compile the network for 1, 2, 4, … and max_batch observations at once before the server is ready (docs/rtc.md):
    minutes of waiting then, faster answers afterwards. Not with int8."""
    threads: int | None = None
    """CPU threads of the network, 1 or more; PyTorch's choice when not given."""
    selftest: bool = False
    """Start, ask oneself with the run's stored observations, compare with Policy.infer bit for bit, and end."""

    def _limits(self) -> None:
        self._require(0 <= self.port <= 65535, "port", "0 to 65535")
        self._at_least(1, "max_batch", "max_clients", "threads")
        self._require(
            not (self.compile_model and self.precision == "int8"),
            "compile_model",
            "false with --precision=int8: the compiler would unpack the codes and keep them in full",
            "drop one of the two: int8 is for memory, compilation for speed",
        )
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
