"""The hub's client, for reading: addresses in turn, what a repository holds with its hashes, and bytes of a file.

`huggingface_hub` brings login, headers, addresses and errors. Its own download keeps nothing of a transfer that broke
off for the next call, and up to 10 MB of each cut are lost; on a line that is cut again and again it never arrives. So
files are read here as they come (`transfer.py` keeps them). The client is imported when the network is needed.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

import pi05
from pi05.errors import HubError
from pi05.sources.faults import Fault, Patience, Say, causes, judge, message_of
from pi05.sources.names import Source

HUB = "https://huggingface.co"
CONNECT_S, SILENCE_S, DOWNLOAD_SILENCE_S = 15.0, 300.0, 30.0
"""Seconds to wait for a connection, for a sign of life (the hub may think for minutes about a large commit), and for
the next bytes of a file."""
LISTING_S = 60.0
MOST_IN_ONE_ANSWER = 50_000
"""Files up to which the hub's description of a repository is complete (as in the client's `snapshot_download`)."""
FIRST_OF_SEVERAL = Patience(attempts=2, first_wait_s=1.0)
"""Where another address can be tried."""
ASKING = Patience(attempts=4, first_wait_s=1.0)
"""Before anything has been fetched: somebody may have misspelt a name."""
READING = Patience(attempts=6, first_wait_s=1.0, longest_wait_s=60.0)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An address of the hub or of a mirror. A token goes to the hub, or to what HF_ENDPOINT names, and nowhere else."""

    address: str
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of a repository, and what its content must hash to."""

    path: str
    size: int
    sha256: str | None = None
    """Of a file in large-file storage."""
    git_sha1: str | None = None
    """Of any other: git's hash, over a header with the length and the content."""

    @property
    def tag(self) -> str:
        """The name of the content in the hub's cache."""
        return self.sha256 or self.git_sha1 or ""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a repository holds at one commit."""

    source: Source
    commit: str
    files: dict[str, RemoteFile]
    endpoint: Endpoint


def offline_variable(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return which of the hub's own variables forbids to send anything; None where none does."""
    name = next((name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if environment.get(name)), None)
    return name if name is not None and environment[name].upper() in {"1", "ON", "YES", "TRUE"} else None


def is_offline() -> bool:
    """Tell whether nothing may be sent: `--offline`, which sets such a variable, or the user's own."""
    return offline_variable() is not None


def hub_address(environment: Mapping[str, str] = os.environ) -> str:
    """Return the address of the hub: HF_ENDPOINT, or the public one."""
    return (environment.get("HF_ENDPOINT") or HUB).rstrip("/")


def endpoints(mirrors: Sequence[str] = ()) -> list[Endpoint]:
    """Return the addresses to try, in turn: the mirrors as given, then the hub."""
    from huggingface_hub import get_token

    own = hub_address()
    addresses = dict.fromkeys([*(mirror.rstrip("/") for mirror in mirrors), own])
    token = get_token()
    return [Endpoint(address=address, token=token if address in (own, HUB) else None) for address in addresses]


@functools.cache
def settle_client() -> None:
    """Once: give up on dead lines, and leave the announcing of repetitions to `Patience`."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()
    set_client_factory(_client_that_gives_up)


def _client_that_gives_up() -> Any:
    """Return the client's own HTTP client with limits to its waiting: it has none, and a dead line would hang a run."""
    from huggingface_hub.utils._http import default_client_factory

    client = default_client_factory()
    client.timeout = type(client.timeout)(SILENCE_S, connect=CONNECT_S)
    return client


def list_repository(
    source: Source, addresses: Sequence[Endpoint], say: Say, patience: Patience | None = None
) -> Listing:
    """Return what a repository holds, from the first address that tells. Raises HubError with what each one said."""
    settle_client()
    refusals: list[HubError] = []
    for number, endpoint in enumerate(addresses, start=1):
        patient = patience or (FIRST_OF_SEVERAL if number < len(addresses) else ASKING)
        what = f"looking up {source} at {endpoint.address}"
        try:
            return reader(patient, source, endpoint).run(what, functools.partial(_ask, source, endpoint), say)
        except HubError as refusal:
            refusals.append(refusal)
            if number < len(addresses):
                say(f"{what}: {refusal.found}; trying {addresses[number].address}")
    raise together(f"{source} cannot be read", refusals)


def reader(patience: Patience, source: Source, endpoint: Endpoint) -> Patience:
    """Return patience that knows what a reader can do about an error."""
    return replace(patience, judged_by=functools.partial(judge_reading, source=source, endpoint=endpoint))


def together(problem: str, refusals: Sequence[HubError]) -> HubError:
    """Return one error for what several addresses answered; the remedy is that of the one that wants a licence."""
    first = next((refusal for refusal in refusals if "licence" in refusal.remedy), refusals[-1])
    found = dict.fromkeys(f"{refusal.problem.removesuffix(' failed')}: {refusal.found}" for refusal in refusals)
    return HubError(problem, found="; ".join(found), remedy=first.remedy)


def _ask(source: Source, endpoint: Endpoint) -> Listing:
    from huggingface_hub import HfApi

    # token=False: the client would otherwise send the stored token to whatever address
    api = HfApi(
        endpoint=endpoint.address, token=endpoint.token or False, library_name="pi05", library_version=pi05.__version__
    )
    info: Any = api.repo_info(
        source.name, repo_type=source.repo_type, revision=source.revision, files_metadata=True, timeout=LISTING_S
    )
    commit = str(info.sha)
    entries: list[Any] = [
        (file.rfilename, file.size, file.blob_id, file.lfs and file.lfs.sha256) for file in info.siblings or ()
    ]
    if len(entries) >= MOST_IN_ONE_ANSWER:
        tree: Any = api.list_repo_tree(source.name, repo_type=source.repo_type, revision=commit, recursive=True)
        entries = [(f.path, f.size, f.blob_id, f.lfs and f.lfs.sha256) for f in tree if hasattr(f, "blob_id")]
    if not re.fullmatch(r"[0-9a-f]{40}", commit) or any(size is None for _, size, _, _ in entries):
        raise _NoHub("the answer has no commit, or no sizes")
    files = {
        path: RemoteFile(path=path, size=int(size), sha256=sha256 or None, git_sha1=None if sha256 else str(blob))
        for path, size, blob, sha256 in entries
    }
    for path in files:
        if not _stays_inside(path):
            raise HubError(
                f"{source} names a file outside of its folder", found=repr(path), remedy="do not use this repository"
            )
    return Listing(source=source, commit=commit, files=files, endpoint=endpoint)


def _stays_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts and "\\" not in path and "\0" not in path


class _NoHub(Exception):
    """What answers is no hub, or not this file; another address may be."""


class WrongContent(_NoHub):
    """What arrives is not the file: a web page, other lengths."""


@contextmanager
def reading(listing: Listing, file: RemoteFile, endpoint: Endpoint, start: int, silence_s: float) -> Iterator[Any]:
    """Yield the answer that holds a file's bytes from `start` on (status 206), or all of them (200).

    Raises the client's errors, and WrongContent for a web page in the place of the file.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    settle_client()
    source = listing.source
    url = hf_hub_url(
        source.name, file.path, repo_type=source.repo_type, revision=listing.commit, endpoint=endpoint.address
    )
    headers = build_hf_headers(token=endpoint.token or False, library_name="pi05", library_version=pi05.__version__) | {
        "Accept-Encoding": "identity"
    }
    if start:
        headers["Range"] = f"bytes={start}-"
    client = get_session()
    timeout = type(client.timeout)(silence_s, connect=min(CONNECT_S, silence_s))
    with client.stream("GET", url, headers=headers, timeout=timeout) as response:
        if response.status_code >= 300:
            response.read()
            hf_raise_for_status(response)
        kind = response.headers.get("Content-Type", "")
        if kind.startswith("text/html") and not file.path.endswith((".html", ".htm")):
            raise WrongContent("a web page comes in the place of the file (a proxy, or a login page)")
        yield response


def judge_reading(error: BaseException, *, source: Source, endpoint: Endpoint) -> Fault | None:
    """Return what an exception means to somebody who reads; None for one that is no fault of hub or network."""
    fault = _judge_status(error, source, endpoint)
    if fault is not None:
        return fault
    if isinstance(error, _NoHub):
        return Fault(str(error), "use another address (HF_ENDPOINT, --mirror), or the network without the proxy")
    fault = judge(error)
    if fault is None:
        return None
    if fault.found.startswith("the answer is not one of a hub"):
        return Fault(fault.found, "use another address (HF_ENDPOINT, --mirror): this one serves something else")
    if fault.remedy is not None and fault.status is not None:
        return replace(fault, remedy="check the name, and try another address (HF_ENDPOINT, --mirror)")
    if "HF_ENDPOINT" in (fault.remedy or ""):
        return replace(fault, remedy="correct HF_ENDPOINT or --mirror")
    return fault


def _judge_status(error: BaseException, source: Source, endpoint: Endpoint) -> Fault | None:
    """Return what 401, 403 and 404 mean, in which the hub says more by its own code than by the status."""
    for link in causes(error):
        response = getattr(link, "response", None)
        status = getattr(response, "status_code", None)
        if status not in (401, 403, 404) or response is None:
            continue
        code, said = response.headers.get("X-Error-Code", ""), message_of(link)
        found = f"{status}: {said}"
        if code == "GatedRepo" or (status != 404 and re.search("gated|restricted|authorized list", said, re.I)):
            login = "hf auth login, or set HF_TOKEN"
            if endpoint.token is not None:
                login = "use the token of the account that accepted it (hf auth whoami)"
            elif endpoint.address != hub_address():
                login = f"{login} (tokens go to HF_ENDPOINT={hub_address()}, not to --mirror)"
            return Fault(found, f"accept the licence at {HUB}/{source.page}, then: {login}", status=status)
        if code == "RevisionNotFound":
            return Fault(found, f"correct the revision behind @; {HUB}/{source.page} lists them", status=status)
        if status == 403:
            return Fault(found, "use a token that may read this repository (hf auth login)", status=status)
        if status == 404 and code == "EntryNotFound":
            return Fault(found, "use another address (HF_ENDPOINT, --mirror): this one lacks the file", status=status)
        kind = "data set" if source.repo_type == "dataset" else "model"
        return Fault(
            f"{status}: there is no {kind} {source.name}, or it is private",
            f"check the name at {HUB}/{source.page}; a private one needs: hf auth login",
            status=status,
        )
    return None
