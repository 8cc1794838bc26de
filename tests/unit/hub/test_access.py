"""Whether a policy could be published, asked of a hub on localhost by the real client."""

from __future__ import annotations

from typing import Any

import pytest
from fake_hub import TOKEN, FakeHub, Repository, User
from huggingface_hub import constants, get_session

from pi05.errors import ConfigError, HubError
from pi05.hub.access import BEFORE_TRAINING, Access, check_access, role_allows
from pi05.hub.config import PushConfig
from pi05.sources.client import CONNECT_S, SILENCE_S
from pi05.sources.faults import Patience


def check(hub: FakeHub, repo_id: str = "ada/cubes", **options: Any) -> Access:
    return check_access(repo_id, endpoint=hub.url, say=lambda line: None, **options)


def refused(hub: FakeHub, repo_id: str = "ada/cubes", **options: Any) -> HubError:
    with pytest.raises(HubError) as caught:
        check(hub, repo_id, **options)
    assert TOKEN not in str(caught.value)
    assert not hub.asked("POST", "repos/create"), "a refusal creates nothing"
    return caught.value


def test_a_new_repository_is_possible_and_nothing_is_created(hub: FakeHub) -> None:
    access = check(hub)
    assert (access.repo_id, access.user, access.exists, access.created) == ("ada/cubes", "ada", False, False)
    assert hub.repositories == {}
    assert access.render() == f"hub: {hub.url}/ada/cubes will be created; ada may write to it"


def test_a_name_without_an_owner_is_ones_own(hub: FakeHub) -> None:
    assert check(hub, "cubes").repo_id == "ada/cubes"


def test_an_existing_repository_is_asked_for_the_right_to_write(hub: FakeHub) -> None:
    hub.repositories["ada/cubes"] = Repository()
    assert check(hub).exists
    assert hub.asked("GET", "auth-check/write")


def test_an_organisation_that_one_may_write_to(hub: FakeHub) -> None:
    hub.users[TOKEN] = User("ada", orgs={"lab": "contributor"}, writes={"ada", "lab"})
    assert check(hub, "lab/cubes").repo_id == "lab/cubes"
    assert hub.repositories == {}


def test_a_login_that_tells_no_role_is_settled_by_creating(hub: FakeHub) -> None:
    hub.users[TOKEN] = User("ada", role=None, writes={"ada"})
    access = check(hub, private=True)
    assert access.created
    assert hub.repositories["ada/cubes"].private
    assert "created" in access.render()


def test_a_login_that_tells_no_role_and_may_not(hub: FakeHub) -> None:
    hub.users[TOKEN] = User("ada", role=None, writes=set())
    with pytest.raises(HubError) as caught:
        check(hub)
    assert "403: You don't have the rights" in str(caught.value)
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("user", "repo_id", "found"),
    [
        (User("ada", role="read"), "ada/cubes", "may only read"),
        (User("ada"), "lab/cubes", "lab is neither you nor one of your organisations (ada)"),
        (User("ada", orgs={"lab": "read"}), "lab/cubes", "your role in lab is read"),
        (User("ada", role="fineGrained"), "ada/cubes", "without repo.write on ada (no scopes)"),
        (
            User("ada", role="fineGrained", scopes=(("user", "ada", ("repo.content.read",)),)),
            "ada/cubes",
            "without repo.write on ada (ada: repo.content.read)",
        ),
    ],
)
def test_a_login_without_the_right_to_write(hub: FakeHub, user: User, repo_id: str, found: str) -> None:
    hub.users[TOKEN] = user
    error = refused(hub, repo_id)
    assert found in str(error)
    assert "HF_TOKEN" in error.remedy


def test_scopes_of_a_fine_grained_token(hub: FakeHub) -> None:
    hub.users[TOKEN] = User("ada", role="fineGrained", scopes=(("user", "ada", ("repo.write",)),), writes={"ada"})
    assert not check(hub).created
    one = (("model", "ada/cubes", ("repo.write",)),)
    hub.users[TOKEN] = User("ada", role="fineGrained", scopes=one, writes={"ada"})
    hub.repositories["ada/cubes"] = Repository()
    assert check(hub).exists
    assert "without repo.write" in str(refused(hub, "ada/other"))


def test_no_token(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    error = refused(hub)
    assert (error.found, hub.requests) == ("no token", [])
    assert "hf auth login" in error.remedy
    assert "HF_TOKEN" in error.remedy


def test_a_token_that_is_not_known(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    error = refused(hub)
    assert error.found is not None
    assert error.found.startswith("401:")
    assert "hf_expired" not in str(error)
    assert "hf auth login" in error.remedy
    assert len(hub.requests) == 1, "a refused token is not tried again"


def test_a_repository_of_somebody_else(hub: FakeHub) -> None:
    hub.repositories["bob/cubes"] = Repository()
    hub.users[TOKEN] = User("ada", orgs={"bob": "write"}, writes={"ada"})  # whoami claims more than the hub grants
    error = refused(hub, "bob/cubes")
    assert "403: You don't have the required permissions" in str(error)
    assert "--repo_id" in error.remedy


def test_private_is_not_published_into_a_public_repository(hub: FakeHub) -> None:
    hub.repositories["ada/cubes"] = Repository(private=False)
    assert "is public" in str(refused(hub, private=True))
    hub.repositories["ada/cubes"] = Repository(private=True)
    assert check(hub, private=True).exists
    assert check(hub, private=None).exists


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_fault_that_passes(hub: FakeHub, status: int) -> None:
    slept: list[float] = []
    said: list[str] = []
    hub.fail("GET", "whoami", status, times=2)
    access = check_access(
        "ada/cubes", endpoint=hub.url, say=said.append, patience=Patience(attempts=4, sleep=slept.append)
    )
    assert access.user == "ada"
    assert slept == [2, 4]
    assert "trying again in 2 s" in said[0]
    assert str(status) in said[0]


def test_as_long_as_the_hub_asks_for(hub: FakeHub) -> None:
    slept: list[float] = []
    hub.fail("GET", "whoami", 429, headers={"Retry-After": "17"})
    hub.fail("GET", "models/ada/cubes", 429, headers={"RateLimit": '"api";r=0;t=33'})
    check_access(
        "ada/cubes", endpoint=hub.url, say=lambda line: None, patience=Patience(attempts=4, sleep=slept.append)
    )
    assert slept == [17, 33]


def test_patience_ends(hub: FakeHub) -> None:
    slept: list[float] = []
    hub.fail("GET", "whoami", 503, times=100)
    error = refused(hub, patience=Patience(attempts=3, sleep=slept.append))
    assert slept == [2, 4]
    assert "503" in str(error)


def test_nobody_waits_long_for_the_first_step() -> None:
    assert sum(BEFORE_TRAINING.waits()) < 30
    assert 200 < sum(Patience().waits()) < 900


def test_a_dead_line_is_given_up(hub: FakeHub) -> None:
    check(hub)
    limits = get_session().timeout
    assert (limits.connect, limits.read, limits.write) == (CONNECT_S, SILENCE_S, SILENCE_S)


def test_nobody_answers(hub: FakeHub) -> None:
    with pytest.raises(HubError, match="no connection"):
        check_access(
            "ada/cubes",
            endpoint="http://127.0.0.1:9",
            say=lambda line: None,
            patience=Patience(attempts=2, sleep=lambda s: None),
        )


def test_somebody_answers_who_is_no_hub(hub: FakeHub) -> None:
    hub.fail("GET", "whoami", 200, body=b"<html>Please log in to the network</html>", times=9)
    error = refused(hub, patience=Patience(attempts=2, sleep=lambda s: None))
    assert "not one of a hub" in str(error)


def test_offline(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = refused(hub)
    assert "HF_HUB_OFFLINE" in str(error)
    assert hub.requests == []


@pytest.mark.parametrize(
    "name",
    ["", "a/b/c", "ada/", "/cubes", "ada/cu bes", "ada/-x", "ada/x.", "a--b/c", "ada/x..y", "ada/x.git", "ada/é"],
)
def test_names_that_cannot_be(hub: FakeHub, name: str) -> None:
    assert "--repo_id" in refused(hub, name).remedy
    assert hub.requests == []
    with pytest.raises(ConfigError):
        PushConfig(repo_id=name)


def test_a_hub_that_says_little_proves_nothing() -> None:
    assert not role_allows({"name": "ada"}, "ada/cubes")
    assert not role_allows({"name": "ada", "auth": {"type": "oauth"}}, "lab/cubes")
