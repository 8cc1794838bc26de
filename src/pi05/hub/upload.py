"""Send a folder to a repository: large files first and one by one, then everything in one commit, then a look at it.

    folder ── each large file ──► storage          repeated after faults; what has arrived is not sent again,
                                                   neither in this run nor in the next
           ── one commit ───────► branch           a reader sees the old files or all of the new ones
           ◄─ names, sizes, hashes ──              compared with what lies here

Storage is Xet where the hub offers it (then a large file that was cut off goes on where it stopped), else Git LFS.
Leaves out what is in the folder (`publish.py`) and how long to be patient (`faults.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pi05.errors import HubError
from pi05.hub.access import Connection
from pi05.sources.faults import Patience, Say, judge

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

MAIN = "main"
OURS = re.compile(
    r"(model|adapter_model)[\w.-]*\.safetensors(\.index\.json)?|adapter_config\.json|pi05\.json|pi05_probe\.safetensors|config\.json|"
    r"policy_(pre|post)processor[\w.-]*\.(json|safetensors)|train_config\.json|"
    r"(tokenizer/)?(tokenizer[\w.-]*|special_tokens_map\.json)"
)
"""Files of a policy. Those of an earlier upload that the new one lacks are removed: a loader would mix the two."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What an upload left on the hub."""

    url: str
    commit: str
    files: int
    bytes: int
    removed: Sequence[str] = ()
    changed: bool = True
    """False when the branch held all of it already."""


@dataclass(frozen=True, kw_only=True)
class UploadTarget:
    """Where to."""

    hub: Connection
    repo_id: str
    revision: str = MAIN
    private: bool | None = None

    @property
    def url(self) -> str:
        """Where the upload is seen."""
        branch = "" if self.revision == MAIN else f"/tree/{self.revision}"
        return f"{self.hub.endpoint}/{self.repo_id}{branch}"


def upload(
    folder: Path,
    target: UploadTarget,
    *,
    message: str,
    patience: Patience,
    say: Say,
    arrived: Callable[[str], None] = lambda path: None,
) -> Sent:
    """Send all files of `folder` and return what is on the hub now. Calling it again continues.

    `arrived` is told of every file whose content the hub has. Raises HubError for faults that do not pass; the folder
    is only read.
    """
    from huggingface_hub import CommitOperationAdd

    api, repo_id = target.hub.api, target.repo_id
    _quiet_bars()
    patience.run(f"creating {repo_id}", lambda: api.create_repo(repo_id, private=target.private, exist_ok=True), say)
    if target.revision != MAIN:
        branch = target.revision
        patience.run(
            f"making the branch {branch}", lambda: api.create_branch(repo_id, branch=branch, exist_ok=True), say
        )
    paths = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: -path.stat().st_size)
    additions = [CommitOperationAdd(path.relative_to(folder).as_posix(), str(path)) for path in paths]
    with _storage(target, patience, say):
        for number, addition in enumerate(additions, 1):
            send_content(target, addition, f"{number} of {len(additions)}", patience, say)
            arrived(addition.path_in_repo)
        sent = patience.run(f"committing to {repo_id}", lambda: commit(target, additions, message, say), say)
    there = patience.run(f"looking at {repo_id}", lambda: remote_files(target), say)
    missing = differences(additions, there)
    if missing:
        raise HubError(
            f"{target.url} is not what was sent",
            wanted=f"{len(additions)} files as they lie in {folder}",
            found=f"differing: {', '.join(missing[:5])}",
            remedy="somebody else may have written to it; push again",
        )
    return sent


def send_content(target: UploadTarget, addition: CommitOperationAdd, place: str, patience: Patience, say: Say) -> None:
    """Send the content of one file, unless it is small (then it travels with the commit) or there already."""
    name, size = addition.path_in_repo, addition.upload_info.size

    def send() -> None:
        target.hub.api.preupload_lfs_files(
            target.repo_id, [addition], revision=target.revision, free_memory=False, num_threads=1
        )

    if size >= 1e7:
        say(f"sending {name} ({place}), {size / 1e6:,.0f} MB")
    patience.run(f"sending {name}", send, say)


def commit(target: UploadTarget, additions: list[CommitOperationAdd], message: str, say: Say) -> Sent:
    """Commit all files at once, and remove what an earlier upload left; do nothing where that is done already.

    The answer to a commit may be lost on its way, so a repetition first looks whether the commit is there.
    """
    from huggingface_hub import CommitOperationDelete

    api = target.hub.api
    remote = remote_files(target)
    names = {addition.path_in_repo for addition in additions}
    stale = sorted(path for path in remote if path not in names and OURS.fullmatch(path))
    totals: dict[str, Any] = {"files": len(additions), "bytes": sum(a.upload_info.size for a in additions)}
    if not stale and not differences(additions, remote):
        sha = str(api.model_info(target.repo_id, revision=target.revision).sha)
        return Sent(url=target.url, commit=sha, changed=False, **totals)
    if stale:
        say(f"removing what an earlier upload left there: {', '.join(stale)}")
    operations: list[Any] = [*additions, *(CommitOperationDelete(path) for path in stale)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = api.create_commit(
            target.repo_id, operations, commit_message=message, revision=target.revision, num_threads=1
        )
    for warning in caught:
        say(f"the hub says: {' '.join(str(warning.message).split())}")
    return Sent(url=target.url, commit=done.oid, removed=stale, **totals)


def remote_files(target: UploadTarget) -> dict[str, Any]:
    """Return path → what the hub tells about the file, for the branch's head."""
    from huggingface_hub.hf_api import RepoFile

    tree = target.hub.api.list_repo_tree(target.repo_id, recursive=True, revision=target.revision)
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}


def differences(additions: Sequence[CommitOperationAdd], remote: Mapping[str, Any]) -> list[str]:
    """Return the files that are not on the hub with the same content: by SHA-256, small ones by git's own hash."""
    return [a.path_in_repo for a in additions if not same_content(a, remote.get(a.path_in_repo))]


def same_content(addition: CommitOperationAdd, entry: Any) -> bool:
    """Tell whether a file of the hub has the content of a file here."""
    if entry is None or entry.size != addition.upload_info.size:
        return False
    if entry.lfs is not None:
        return bool(entry.lfs.sha256 == addition.upload_info.sha256.hex())
    data = Path(str(addition.path_or_fileobj)).read_bytes()
    return bool(entry.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest())


@contextlib.contextmanager
def _storage(target: UploadTarget, patience: Patience, say: Say) -> Iterator[None]:
    """Let the client use Xet only where the hub has it: it asks no server, and knows only whether hf_xet is here."""
    from huggingface_hub import constants

    before = constants.HF_HUB_DISABLE_XET
    if not before and not patience.run("asking for the storage", lambda: offers_xet(target), say):
        constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


def offers_xet(target: UploadTarget) -> bool:
    """Tell whether the hub hands out keys to a Xet storage for this repository."""
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    revision = target.revision.replace("/", "%2F")
    address = f"{target.hub.endpoint}/api/models/{target.repo_id}/xet-write-token/{revision}"
    answer = get_session().get(address, headers=build_hf_headers(token=target.hub.token))
    try:
        hf_raise_for_status(answer)
    except Exception as error:
        fault = judge(error)
        if fault is not None and fault.status in (400, 404, 405, 501):
            return False
        raise
    return "x-xet-cas-url" in {name.lower() for name in answer.headers}


def _quiet_bars() -> None:
    """Switch the client's progress bars off where nobody watches them."""
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
