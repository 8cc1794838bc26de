"""Whether a policy could be published, found out before training starts: address, login, name, permission.

Nothing is created where the hub says beforehand that the token may write. For a repository that is there it is asked
(`auth-check/write`). For a new one it follows from the token's role, its scopes and one's role in the organisation.
Where that does not settle it (logins without an access token, mirrors that say less), the empty repository is created
at once, which is the only proof then, and said.

Source: the hub's API as huggingface_hub 2.4 uses it; roles of tokens: https://huggingface.co/docs/hub/security-tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pi05
from pi05.errors import HubError, tell
from pi05.sources.client import settle_client
from pi05.sources.faults import LOG_IN, Patience, Say, judge
from pi05.sources.names import NAME_RULE, valid_name

if TYPE_CHECKING:
    from huggingface_hub import HfApi

BEFORE_TRAINING = Patience(attempts=4)
"""Somebody waits for the first step."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """An address of the hub, and the client and token that are used there."""

    api: HfApi
    endpoint: str
    token: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Access:
    """A repository that may be written to."""

    repo_id: str
    user: str
    endpoint: str
    exists: bool
    created: bool = False
    """Created by the check, because nothing else proves the permission."""
    note: str | None = None

    @property
    def url(self) -> str:
        """Where the repository is seen."""
        return f"{self.endpoint}/{self.repo_id}"

    def render(self) -> str:
        """Return one line for the console."""
        state = "created" if self.created else "is there" if self.exists else "will be created"
        return f"hub: {self.url} {state}; {self.user} may write to it" + (f" ({self.note})" if self.note else "")


def connect(endpoint: str | None = None) -> Connection:
    """Return a client for an address. Sends nothing. Raises HubError without a token."""
    from huggingface_hub import HfApi, constants, get_token

    settle_client()
    address = (endpoint or constants.ENDPOINT).rstrip("/")
    token = get_token()
    if token is None:
        raise HubError("publishing needs a login", wanted=f"a token for {address}", found="no token", remedy=LOG_IN)
    api = HfApi(endpoint=address, token=token, library_name="pi05", library_version=pi05.__version__)
    return Connection(api=api, endpoint=address, token=token)


def check_access(
    repo_id: str,
    *,
    private: bool | None = None,
    endpoint: str | None = None,
    patience: Patience = BEFORE_TRAINING,
    say: Say = tell,
) -> Access:
    """Return the repository with its owner's name, after it is certain that the token may write to it.

    Raises HubError: no login, refused or read-only token, impossible name, no right to write, a public repository where
    a private one is wanted, no connection.
    """
    require_name(repo_id)
    hub = connect(endpoint)
    identity: dict[str, Any] = patience.run(f"logging in at {hub.endpoint}", lambda: hub.api.whoami(), say)
    user = str(identity.get("name"))
    full = repo_id if "/" in repo_id else f"{user}/{repo_id}"
    proven = role_allows(identity, full)
    info = patience.run(f"looking up {full}", lambda: _look_up(hub, full), say)
    access = Access(repo_id=full, user=user, endpoint=hub.endpoint, exists=info is not None)
    if info is None and proven:
        return access
    if info is None:
        patience.run(f"creating {full}", lambda: hub.api.create_repo(full, private=private, exist_ok=True), say)
        why = "the hub does not say beforehand whether this login may create it"
        return Access(repo_id=full, user=user, endpoint=hub.endpoint, exists=True, created=True, note=why)
    if private and info.private is False:
        raise HubError(
            f"{full} is public, and a private repository is wanted",
            wanted="a private repository, or one that is not there yet",
            found=f"{access.url} is there and public",
            remedy=f"choose another name, or make it private at {access.url}/settings",
        )
    patience.run(f"asking whether {user} may write to {full}", lambda: _ask_to_write(hub, full, proven), say)
    return access


def require_name(repo_id: str) -> None:
    """Raise HubError for a name that no repository can have."""
    if not valid_name(repo_id):
        raise HubError(
            f"the hub has no repository called {repo_id}",
            wanted=NAME_RULE,
            found=repr(repo_id),
            remedy="correct --repo_id (in training: --policy.repo_id)",
        )


def _look_up(hub: Connection, repo_id: str) -> Any:
    """Return what the hub tells about a repository; None when there is none that this login sees."""
    try:
        return hub.api.model_info(repo_id)
    except Exception as error:
        fault = judge(error)
        if fault is not None and fault.status == 404:
            return None
        raise


def _ask_to_write(hub: Connection, repo_id: str, proven: bool) -> None:
    try:
        hub.api.auth_check(repo_id, write=True)
    except Exception as error:
        fault = judge(error)
        if proven and fault is not None and fault.status == 404:  # a mirror without this question
            return
        raise


def role_allows(identity: dict[str, Any], repo_id: str) -> bool:
    """Tell whether a login proves the right to write to a repository; False: it does not tell.

    Raises HubError where it proves the opposite. `identity` is the hub's answer to whoami.
    """
    owner = repo_id.split("/")[0]
    user = identity.get("name")
    token = (identity.get("auth") or {}).get("accessToken") or {}
    role = token.get("role")
    if role == "read":
        raise _not_allowed(repo_id, "a token that may only read")
    scopes = (token.get("fineGrained") or {}).get("scoped")
    if role == "fineGrained" and isinstance(scopes, list):
        return _scopes_allow(scopes, repo_id)
    if owner == user:
        return role == "write"
    orgs = {org.get("name"): org.get("roleInOrg") for org in identity.get("orgs") or ()}
    if role == "write" and owner not in orgs:
        known = ", ".join([str(user), *map(str, orgs)])
        raise _not_allowed(repo_id, f"{owner} is neither you nor one of your organisations ({known})")
    if orgs.get(owner) in ("read", "no_access"):
        raise _not_allowed(repo_id, f"your role in {owner} is {orgs[owner]}")
    return role == "write" and orgs.get(owner) in ("admin", "write", "contributor")


def _scopes_allow(scopes: list[dict[str, Any]], repo_id: str) -> bool:
    """Tell what the scopes of a fine-grained token say: on the owner it may create, on the repository it may write."""
    owner = repo_id.split("/")[0]
    granted: dict[str, set[str]] = {}
    for scope in scopes:
        entity = scope.get("entity") or {}
        granted.setdefault(str(entity.get("name")), set()).update(scope.get("permissions") or ())
    if "repo.write" in granted.get(owner, ()):
        return True
    if "repo.write" in granted.get(repo_id, ()):
        return False  # enough if it is there already, which is asked next
    has = "; ".join(f"{name}: {', '.join(sorted(rights)) or 'nothing'}" for name, rights in granted.items())
    raise _not_allowed(repo_id, f"a fine-grained token without repo.write on {owner} ({has or 'no scopes'})")


def _not_allowed(repo_id: str, found: str) -> HubError:
    return HubError(
        f"{repo_id} may not be written to with this login", wanted="the right to write", found=found, remedy=LOG_IN
    )
