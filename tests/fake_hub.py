"""A hub on localhost as the real `huggingface_hub` client uses it, for uploads and downloads, that can fail on request.

Repositories live in memory: branches of commits, each a dictionary of files. What is uploaded as LFS must have the
SHA-256 that was announced, and a commit may only name objects that have arrived. `fail` makes a route answer with an
error, or cut the connection before, in the middle of, or after its work. Every request is recorded.

Source of the routes: huggingface_hub 2.4 (`hf_api.py`, `_commit_api.py`, `lfs.py`), and git-lfs' batch API.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faulty_server import FaultyHandler, FaultyServer

TOKEN = "hf_right"
LFS_NAMES = (".safetensors", ".model", ".bin")


@dataclass
class User:
    """Somebody who has a token."""

    name: str
    role: str | None = "write"
    """write, read or fineGrained; None for a login without an access token (OAuth), which whoami says nothing about."""
    orgs: Mapping[str, str] = field(default_factory=dict)
    """Organisation → role in it."""
    scopes: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """Of a fine-grained token: kind of entity, its name, permissions."""
    writes: set[str] = field(default_factory=set)
    """Namespaces that the server lets the token write to, whatever whoami says."""

    def whoami(self) -> dict[str, Any]:
        token: dict[str, Any] = {"displayName": "test", "role": self.role, "createdAt": "2026-01-01T00:00:00.000Z"}
        if self.role == "fineGrained":
            scoped = [{"entity": {"type": t, "name": n}, "permissions": list(p)} for t, n, p in self.scopes]
            token["fineGrained"] = {"canReadGatedRepos": False, "global": [], "scoped": scoped}
        auth = {"type": "access_token", "accessToken": token} if self.role else {"type": "oauth"}
        orgs = [{"type": "org", "name": name, "roleInOrg": role} for name, role in self.orgs.items()]
        return {"type": "user", "id": "1", "name": self.name, "orgs": orgs, "auth": auth}


@dataclass
class Waits:
    """Seconds that the client, and that pi05, would have waited."""

    client: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)


@dataclass
class Repository:
    """Branches of commits; a commit is path → content, and lists which paths are LFS."""

    private: bool = False
    accepted: set[str] | None = None
    """Who has accepted the licence of a gated repository; None: it is not gated."""
    branches: dict[str, list[dict[str, bytes]]] = field(default_factory=lambda: {"main": [{}]})
    lfs: set[str] = field(default_factory=set)
    messages: list[str] = field(default_factory=list)

    def head(self, branch: str = "main") -> dict[str, bytes]:
        return self.branches[branch][-1]

    def sha(self, branch: str) -> str:
        listing = sorted((path, git_oid(data)) for path, data in self.head(branch).items())
        return hashlib.sha1(repr((branch, len(self.branches[branch]), listing)).encode()).hexdigest()


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class FakeHub(FaultyServer):
    """The server. Use it as a context manager; `url` is its endpoint."""

    def __init__(self, *, part_bytes: int | None = None) -> None:
        super().__init__(_Routes)
        self.users: dict[str, User] = {TOKEN: User("ada", writes={"ada"})}
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.part_bytes = part_bytes
        self.xet: str | None = None
        """Address of a Xet storage, local://FOLDER; without it the hub has LFS only."""
        self.xet_objects: dict[str, tuple[str, int]] = {}
        """Path → SHA-256 and size of the files that were committed from there."""
        self.refuse_card: str | None = None

    def publish(
        self, name: str, files: Mapping[str, bytes], *, branch: str = "main", gated: bool = False, private: bool = False
    ) -> Repository:
        """Put files into a repository, as its owner would; `name` of a data set is datasets/OWNER/NAME."""
        repository = self.repositories.setdefault(name, Repository(private=private))
        repository.accepted = set() if gated else None
        repository.branches.setdefault(branch, []).append(dict(files))
        repository.lfs |= {path for path in files if path.endswith((*LFS_NAMES, ".parquet", ".mp4", "tokenizer.json"))}
        return repository

    def files(self, repo_id: str, branch: str = "main") -> dict[str, bytes]:
        """Return the files at the head of a branch."""
        return self.repositories[repo_id].head(branch)


class _Routes(FaultyHandler):
    """What the hub answers."""

    server_side: FakeHub

    def route(self, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        hub = self.server_side
        if match := re.fullmatch(r"/storage/(\w+)(?:/(\d+|complete))?", path):
            return self._storage(match[1], match[2], body)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        user = hub.users.get(token)
        if (user is not None or not token) and (answer := self._read(user, path)) is not None:
            return answer
        if user is None:
            return error(
                401, "Invalid credentials in Authorization header" if token else "Invalid username or password."
            )
        if path == "/api/whoami-v2":
            return 200, user.whoami(), {}
        if path == "/api/validate-yaml":
            if hub.refuse_card:
                return 400, {"errors": [{"message": hub.refuse_card}], "warnings": []}, {}
            return 200, {"errors": [], "warnings": []}, {}
        if path == "/api/repos/create":
            return self._create(user, json.loads(body))
        if match := re.fullmatch(r"/([\w.-]+/[\w.-]+)\.git/info/lfs/objects/(batch|verify)", path):
            return self._lfs(user, match[1], match[2], json.loads(body))
        if match := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/([\w-]+))?(?:/(.+))?", path):
            return self._model(user, match[1], match[2], match[3], body)
        return error(404, "Not found")

    def _read(self, user: User | None, path: str) -> Any:
        """Answer what somebody who only reads may ask, without a login too; None for anything else.

        A data set stands in `repositories` as datasets/OWNER/NAME, as in its address.
        """
        if self.command not in ("GET", "HEAD"):
            return None
        info = re.fullmatch(r"/api/(?:models/|(?=datasets/))((?:datasets/)?[\w.-]+/[\w.-]+)(?:/revision/(.+))?", path)
        file = re.fullmatch(r"/((?:datasets/)?[\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path)
        name = info[1] if info else file[1] if file else None
        if name is None:
            return None
        repository = self.server_side.repositories.get(name)
        reads = user is not None and name.split("/")[-2] in user.writes
        if repository is None or (repository.private and not reads):
            status = 404 if user is not None else 401  # so does the hub: it does not tell which names there are
            return error(status, "Repository not found", "RepoNotFound")
        if file:
            if repository.accepted is not None and (user is None or user.name not in repository.accepted):
                said = f"Access to model {name} is restricted and you are not in the authorized list."
                return error(401 if user is None else 403, said, "GatedRepo")
            return self._resolve(name, file[2], file[3])
        return self._info(name, repository, info[2] or "main" if info else "main")

    def _info(self, name: str, repository: Repository, revision: str) -> Any:
        heads = {branch: branch for branch in repository.branches}
        heads |= {repository.sha(branch): branch for branch in repository.branches}
        if revision not in heads:
            return error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        siblings = []
        for path, data in sorted(repository.head(heads[revision]).items()):
            entry: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": git_oid(data)}
            if path in repository.lfs:
                pointer = lfs_pointer(data)
                sha256 = hashlib.sha256(data).hexdigest()
                entry |= {"blobId": git_oid(pointer)}
                entry |= {"lfs": {"sha256": sha256, "size": len(data), "pointerSize": len(pointer)}}
            siblings.append(entry)
        told = {"id": name.removeprefix("datasets/"), "sha": repository.sha(heads[revision])}
        told |= {"private": repository.private, "gated": repository.accepted is not None and "manual"}
        return 200, {**told, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0}, {}

    def _model(self, user: User, repo_id: str, what: str | None, rest: str | None, body: bytes) -> Any:
        repository = self.server_side.repositories.get(repo_id)
        writes = repo_id.split("/")[0] in user.writes
        if repository is None or (repository.private and not writes):
            return error(404, "Repository not found", "RepoNotFound")
        if what == "auth-check":
            return (200, {}, {}) if writes or rest != "write" else error(403, "You don't have the required permissions")
        if what in (None, "revision"):
            branch = rest or "main"
            if branch not in repository.branches:
                return error(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            siblings = [{"rfilename": path} for path in sorted(repository.head(branch))]
            told = {"id": repo_id, "sha": repository.sha(branch), "private": repository.private, "siblings": siblings}
            return 200, {**told, "tags": [], "downloads": 0, "likes": 0}, {}
        if what == "tree":
            return self._tree(repository, rest or "main")
        if not writes:
            return error(403, "You don't have the required permissions")
        if what == "branch":
            if rest in repository.branches:
                return error(409, f"Reference already exists: {rest}")
            repository.branches[str(rest)] = [dict(repository.head())]
            return 200, {}, {}
        if rest not in repository.branches:
            return error(404, f"Invalid rev id: {rest}", "RevisionNotFound")
        if what == "preupload":
            return self._preupload(repository, rest, json.loads(body))
        if what == "commit":
            return self._commit(repo_id, repository, rest, body)
        if what == "xet-write-token" and self.server_side.xet is not None:
            expires = str(int(time.time()) + 3600)
            told = {"X-Xet-Cas-Url": self.server_side.xet, "X-Xet-Access-Token": "x", "X-Xet-Token-Expiration": expires}
            return 200, {"casUrl": self.server_side.xet, "accessToken": "x", "exp": int(expires)}, told
        return error(404, "Not found")

    def _create(self, user: User, wish: dict[str, Any]) -> Any:
        owner = wish.get("organization") or user.name
        repo_id = f"{owner}/{wish['name']}"
        url = f"{self.server_side.url}/{repo_id}"
        if owner not in user.writes:
            return error(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        if repo_id in self.server_side.repositories:
            return 409, {"error": "You already created this model repo", "url": url}, {}
        private = wish.get("visibility") == "private" or bool(wish.get("private"))
        self.server_side.repositories[repo_id] = Repository(private=private)
        return 200, {"url": url, "name": repo_id, "id": "2"}, {}

    def _tree(self, repository: Repository, rest: str) -> Any:
        """List a branch, or one of its folders."""
        for name in repository.branches:
            rest = rest.replace(repository.sha(name), name)
        branch = next((name for name in repository.branches if f"{rest}/".startswith(f"{name}/")), None)
        if branch is None:
            return error(404, f"Invalid rev id: {rest}", "RevisionNotFound")
        folder = rest[len(branch) + 1 :]
        if folder and not any(path.startswith(f"{folder}/") for path in repository.head(branch)):
            return error(404, f"{folder} does not exist", "EntryNotFound")
        entries = []
        hub_xet = self.server_side.xet_objects
        for path, data in sorted(repository.head(branch).items()):
            if folder and not path.startswith(f"{folder}/"):
                continue
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
            if path in repository.lfs:
                pointer = lfs_pointer(data)
                sha256, size = hub_xet.get(path, (hashlib.sha256(data).hexdigest(), len(data)))
                entry |= {"size": size}
                entry |= {
                    "oid": git_oid(pointer),
                    "lfs": {"oid": sha256, "size": size, "pointerSize": len(pointer)},
                }
            entries.append(entry)
        return 200, entries, {}

    def _preupload(self, repository: Repository, branch: str, wish: dict[str, Any]) -> Any:
        answers = []
        for file in wish["files"]:
            assert len(base64.b64decode(file["sample"])) == min(file["size"], 512)
            mode = "lfs" if file["path"].endswith(LFS_NAMES) or file["size"] > 10_000_000 else "regular"
            there = repository.head(branch).get(file["path"])
            oid = None if there is None else hashlib.sha256(there).hexdigest() if mode == "lfs" else git_oid(there)
            answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return 200, {"files": answers}, {}

    def _lfs(self, user: User, repo_id: str, what: str, wish: dict[str, Any]) -> Any:
        hub = self.server_side
        if repo_id not in hub.repositories:
            return error(404, "Repository not found", "RepoNotFound")
        if repo_id.split("/")[0] not in user.writes:
            return error(403, "You don't have the required permissions")
        if what == "verify":
            whole = len(hub.objects.get(wish["oid"], b"")) == wish["size"]
            return (200, {}, {}) if whole else error(422, "the object has not arrived")
        objects = []
        for entry in wish["objects"]:
            oid, size = entry["oid"], entry["size"]
            answer: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
            if oid not in hub.objects:
                href = f"{hub.url}/storage/{oid}"
                upload: dict[str, Any] = {"href": href}
                if hub.part_bytes is not None and size > hub.part_bytes:
                    count = -(-size // hub.part_bytes)
                    numbered = {f"{part:05d}": f"{href}/{part}" for part in range(1, count + 1)}
                    upload = {"href": f"{href}/complete", "header": {"chunk_size": str(hub.part_bytes), **numbered}}
                verify = {"href": f"{hub.url}/{repo_id}.git/info/lfs/objects/verify"}
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        return 200, {"transfer": "basic", "objects": objects}, {}

    def _storage(self, oid: str, part: str | None, body: bytes) -> Any:
        """Take what a signed address is for. As with S3, a token of the hub's has no business here."""
        hub = self.server_side
        if part != "complete" and "Authorization" in self.headers:
            return error(400, "only one auth mechanism allowed")
        if part is not None and part != "complete":
            hub.parts.setdefault(oid, {})[int(part)] = body
            return 200, {}, {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}
        if part == "complete":
            named = {entry["partNumber"]: entry["etag"].strip('"') for entry in json.loads(body)["parts"]}
            parts = hub.parts.pop(oid, {})
            if named != {number: hashlib.md5(data).hexdigest() for number, data in parts.items()}:
                return error(400, "the parts are not those that arrived")
            body = b"".join(data for _, data in sorted(parts.items()))
        if hashlib.sha256(body).hexdigest() != oid:
            return error(400, "the content does not have the SHA-256 that was announced")
        hub.objects[oid] = body
        return 200, {}, {}

    def _commit(self, repo_id: str, repository: Repository, branch: str, body: bytes) -> Any:
        hub = self.server_side
        lines = [json.loads(line) for line in body.splitlines()]
        files = dict(repository.head(branch))
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
                repository.lfs.discard(value["path"])
            elif line["key"] == "lfsFile":
                if hub.xet is not None and in_shards(hub.xet, value["oid"]):
                    hub.xet_objects[value["path"]] = value["oid"], value["size"]
                    hub.objects[value["oid"]] = b""  # the content lies in chunks
                if value["oid"] not in hub.objects:
                    return error(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
                files[value["path"]] = hub.objects[value["oid"]]
                repository.lfs.add(value["path"])
            elif line["key"] == "deletedFile":
                if files.pop(value["path"], None) is None:
                    return error(404, "A file with this name doesn't exist", "EntryNotFound")
            else:
                assert line["key"] == "header", line
                repository.messages.append(value["summary"])
        repository.branches[branch].append(files)
        sha = repository.sha(branch)
        return 200, {"commitUrl": f"{hub.url}/{repo_id}/commit/{sha}", "commitOid": sha, "success": True}, {}

    def _resolve(self, repo_id: str, revision: str, path: str) -> Any:
        """Serve a file, as downloads ask for it; the revision is a branch or the commit at a branch's head."""
        repository = self.server_side.repositories.get(repo_id)
        if repository is None:
            return error(404, "Repository not found", "RepoNotFound")
        heads = {name: name for name in repository.branches} | {repository.sha(n): n for n in repository.branches}
        if revision not in heads:
            return error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        files = repository.head(heads[revision])
        if path not in files:
            return error(404, "Entry not found", "EntryNotFound")
        tag = hashlib.sha256(files[path]).hexdigest()
        headers = {"X-Repo-Commit": repository.sha(heads[revision]), "ETag": f'"{tag}"'}
        whole = files[path]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked is None:
            return 200, whole, headers
        if (start := int(asked[1])) >= len(whole):
            return *error(416, "Range not satisfiable")[:2], {"Content-Range": f"bytes */{len(whole)}"}
        return 206, whole[start:], headers | {"Content-Range": f"bytes {start}-{len(whole) - 1}/{len(whole)}"}


def error(status: int, message: str, code: str | None = None) -> tuple[int, dict[str, str], dict[str, str]]:
    """Return an answer as the hub words its errors."""
    return status, {"error": message}, {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}


def lfs_pointer(data: bytes) -> bytes:
    sha256 = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(data)}\n".encode()


def in_shards(xet: str, sha256: str) -> bool:
    """Tell whether a shard of a local Xet storage names a file of this SHA-256: four words, each least byte first."""
    words = bytes.fromhex(sha256)
    stored = b"".join(words[i : i + 8][::-1] for i in range(0, 32, 8))
    shards = list(Path(xet.removeprefix("local://")).rglob("*.mdb"))
    return any(stored in data or words in data for data in (shard.read_bytes() for shard in shards))


def content(folder: Path) -> dict[str, bytes]:
    """Return path → bytes of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
