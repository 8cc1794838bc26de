"""Somebody who fetches from the hub on localhost: a model, waits that are counted, and what was said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from huggingface_hub import constants

from pi05.sources.client import Endpoint, Listing, list_repository
from pi05.sources.faults import Patience
from pi05.sources.names import Source
from pi05.sources.progress import Progress
from pi05.sources.transfer import Item, Transfer

MODEL = "lab/model"
WEIGHTS = bytes(range(256)) * 40
FILES = {"config.json": b'{"type": "pi05"}', "model.safetensors": WEIGHTS, "README.md": b"# a model\n"}


@dataclass
class Line:
    """What somebody who fetches sees, and how long they would have waited."""

    folder: Path
    addresses: list[Endpoint]
    silence_s: float = 5.0
    said: list[str] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)

    @property
    def patience(self) -> Patience:
        """Six attempts, and no time lost."""
        return Patience(attempts=6, first_wait_s=1.0, sleep=self.waited.append)

    def listing(self, name: str = MODEL, **kind: str) -> Listing:
        """Return what a repository holds."""
        source = Source(name=name, **{"kind": "model", **kind})  # type: ignore[arg-type]
        return list_repository(source, self.addresses, self.said.append, self.patience)

    def transfer(self, listing: Listing) -> Transfer:
        """Return what fetches from it."""
        return Transfer(
            listing=listing,
            endpoints=self.addresses,
            say=self.said.append,
            progress=Progress(self.said.append),
            patience=self.patience,
            silence_s=self.silence_s,
            workers=2,
        )

    def fetch(self, *names: str) -> Path:
        """Fetch files of the model as items of one transfer; whole ones lie in `folder`."""
        listing = self.listing()
        items = []
        for name in names or FILES:
            target = self.folder / name
            part = self.folder / f"{name}.part"
            items.append(
                Item(file=listing.files[name], part=part, settle=lambda part, target=target: _move(part, target))
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.transfer(listing).run(items, self.folder)
        return self.folder


def _move(part: Path, target: Path) -> None:
    part.replace(target)


def use_home(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Give the hub's client a home of its own; nothing of this machine's is seen."""
    for name in (
        *("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"),
        *("HF_LEROBOT_HOME", "HF_ENDPOINT", "RANK", "PI05_SCRIPTS"),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(folder))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    return folder


@contextmanager
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every attempt to open a connection fail the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    with monkeypatch.context() as patch:
        patch.setattr("socket.socket.connect", refuse)
        patch.setattr("socket.socket.connect_ex", refuse)
        patch.setattr("socket.getaddrinfo", refuse)
        yield
