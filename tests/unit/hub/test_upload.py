"""Uploads through the real client to a hub on localhost, faults included; what arrives is compared byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_hub import TOKEN, FakeHub, Repository, User, Waits, content
from faulty_server import Request
from huggingface_hub import constants

from pi05.errors import HubError
from pi05.hub.access import connect
from pi05.hub.upload import Sent, UploadTarget, upload
from pi05.sources.faults import Patience

WEIGHTS = "model.safetensors"

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own call of httpx


def send(hub: FakeHub, policy: Path, waits: Waits, said: list[str] | None = None, **options: Any) -> Sent:
    target = UploadTarget(hub=connect(hub.url), repo_id="ada/cubes", **options)
    lines = [] if said is None else said
    return upload(policy, target, message="A policy", patience=Patience(sleep=waits.ours.append), say=lines.append)


def test_everything_arrives_in_one_commit(hub: FakeHub, policy: Path, waits: Waits) -> None:
    sent = send(hub, policy, waits)
    assert hub.files("ada/cubes") == content(policy)
    assert hub.repositories["ada/cubes"].messages == ["A policy"]
    assert WEIGHTS in hub.repositories["ada/cubes"].lfs
    assert sent.url == f"{hub.url}/ada/cubes"
    assert (sent.files, sent.bytes) == (7, sum(map(len, content(policy).values())))
    assert (waits.client, waits.ours) == ([], [])


def test_to_a_branch_of_a_private_repository(hub: FakeHub, policy: Path, waits: Waits) -> None:
    sent = send(hub, policy, waits, revision="v1/robot", private=True)
    assert hub.repositories["ada/cubes"].private
    assert hub.files("ada/cubes", "v1/robot") == content(policy)
    assert hub.files("ada/cubes") == {}
    assert sent.url.endswith("/ada/cubes/tree/v1/robot")
    assert not send(hub, policy, waits, revision="v1/robot").changed, "the branch is there already (409)"


def test_in_parts(hub: FakeHub, policy: Path, waits: Waits) -> None:
    hub.part_bytes = 1_000_000
    hub.fail("PUT", r"/storage/\w+/2$", 500)
    send(hub, policy, waits)
    assert hub.files("ada/cubes") == content(policy)
    assert len(hub.asked("PUT", r"/storage/\w+/\d+$")) == 5, "four parts, one of them twice"


def test_the_same_again_changes_nothing(hub: FakeHub, policy: Path, waits: Waits) -> None:
    first = send(hub, policy, waits)
    hub.requests.clear()
    second = send(hub, policy, waits)
    assert (second.changed, second.commit) == (False, second.commit)
    assert first.changed
    assert not hub.asked("PUT", "storage")
    assert len(hub.repositories["ada/cubes"].messages) == 1


@pytest.mark.parametrize("status", [500, 429])
@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("POST", "repos/create"),
        ("POST", "preupload"),
        ("POST", "objects/batch"),
        ("PUT", "storage"),
        ("POST", "objects/verify"),
        ("POST", "validate-yaml"),
        ("POST", "/commit/"),
        ("GET", "/tree/"),
    ],
)
def test_a_fault_that_passes(hub: FakeHub, policy: Path, waits: Waits, method: str, route: str, status: int) -> None:
    hub.fail(method, route, status, times=2)
    send(hub, policy, waits)
    assert hub.files("ada/cubes") == content(policy)
    assert len(waits.client) + len(waits.ours) == 2
    assert hub.faults == []


@pytest.mark.parametrize("cut", ["before", "middle", "after"])
@pytest.mark.parametrize(
    ("method", "route"),
    [("POST", "repos/create"), ("POST", "objects/batch"), ("PUT", "storage"), ("POST", "/commit/"), ("GET", "/tree/")],
)
def test_a_connection_that_is_cut(hub: FakeHub, policy: Path, waits: Waits, method: str, route: str, cut: Any) -> None:
    hub.fail(method, route, cut=cut, times=2)
    send(hub, policy, waits)
    assert hub.files("ada/cubes") == content(policy)
    assert len(hub.repositories["ada/cubes"].messages) == 1, "a commit whose answer was lost is not made again"


def test_the_wait_that_the_hub_asks_for(hub: FakeHub, policy: Path, waits: Waits) -> None:
    said: list[str] = []
    hub.fail("POST", "/commit/", 429, headers={"Retry-After": "90"})
    hub.fail("PUT", "storage", 503, headers={"Retry-After": "40"})
    send(hub, policy, waits, said)
    assert (waits.client, waits.ours) == ([41], [90])
    assert any("429" in line and "trying again in 90 s" in line for line in said)


@pytest.mark.parametrize("status", [409, 412])
def test_somebody_else_commits_at_the_same_time(hub: FakeHub, policy: Path, waits: Waits, status: int) -> None:
    hub.fail(
        "POST", "/commit/", status, body=b'{"error": "A commit has happened since. Please refresh and try again."}'
    )
    send(hub, policy, waits)
    assert hub.files("ada/cubes") == content(policy)
    assert waits.ours == [2]


@pytest.mark.parametrize(
    ("method", "route", "status", "remedy"),
    [
        ("POST", "preupload", 401, "hf auth login"),
        ("POST", "preupload", 403, "may write"),
        ("POST", "objects/batch", 413, "refuses"),
        ("PUT", "storage", 403, "may write"),
        ("POST", "/commit/", 401, "hf auth login"),
        ("POST", "/commit/", 404, "name"),
    ],
)
def test_a_fault_that_does_not_pass_ends_at_once(
    hub: FakeHub, policy: Path, waits: Waits, method: str, route: str, status: int, remedy: str
) -> None:
    hub.fail(method, route, status, times=100)
    with pytest.raises(HubError) as caught:
        send(hub, policy, waits)
    assert str(status) in str(caught.value)
    assert remedy in caught.value.remedy
    assert TOKEN not in str(caught.value)
    assert (waits.client, waits.ours) == ([], [])
    assert hub.repositories["ada/cubes"].messages == [], "nobody sees half of a policy"


def test_a_hub_that_stays_away(hub: FakeHub, policy: Path, waits: Waits) -> None:
    hub.fail("POST", "/commit/", 503, times=1000)
    with pytest.raises(HubError, match="503"):
        send(hub, policy, waits)
    assert len(waits.ours) == 7
    assert waits.ours == sorted(waits.ours)


def test_what_has_arrived_is_not_sent_again_by_the_next_run(hub: FakeHub, policy: Path, waits: Waits) -> None:
    """The first run is stopped by a fault after the weights; the second sends what is missing."""
    hub.fail("POST", "/commit/", 403)
    with pytest.raises(HubError):
        send(hub, policy, waits)
    assert len(hub.asked("PUT", "storage")) == 2, "weights and statistics"
    hub.requests.clear()
    send(hub, policy, waits)
    assert hub.asked("PUT", "storage") == []
    assert hub.files("ada/cubes") == content(policy)


def test_an_interrupted_upload_continues(hub: FakeHub, policy: Path, waits: Waits) -> None:
    """Ctrl-C between two files: the first is not sent again."""
    target = UploadTarget(hub=connect(hub.url), repo_id="ada/cubes")

    def stop(path: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upload(
            policy, target, message="m", patience=Patience(sleep=waits.ours.append), say=lambda line: None, arrived=stop
        )
    assert len(hub.asked("PUT", "storage")) == 1
    send(hub, policy, waits)
    assert len(hub.asked("PUT", "storage")) == 2
    assert hub.files("ada/cubes") == content(policy)


def test_files_of_an_earlier_layout_are_removed_and_others_kept(hub: FakeHub, policy: Path, waits: Waits) -> None:
    there = {"adapter_model.safetensors": b"old", "adapter_config.json": b"{}", "demo.gif": b"mine", "LICENSE": b"mine"}
    hub.repositories["ada/cubes"] = Repository(branches={"main": [there]})
    said: list[str] = []
    sent = send(hub, policy, waits, said)
    assert hub.files("ada/cubes") == {**content(policy), "demo.gif": b"mine", "LICENSE": b"mine"}
    assert list(sent.removed) == ["adapter_config.json", "adapter_model.safetensors"]
    assert "removing what an earlier upload left there: adapter_config.json, adapter_model.safetensors" in said


def test_what_lies_there_afterwards_is_compared(hub: FakeHub, policy: Path, waits: Waits) -> None:
    def spoil(request: Request) -> None:
        if "/commit/" in request.path:
            hub.files("ada/cubes")[WEIGHTS] = hub.files("ada/cubes")[WEIGHTS][::-1]

    hub.after = spoil
    with pytest.raises(HubError, match=r"differing: model\.safetensors"):
        send(hub, policy, waits)


def test_a_card_that_the_hub_refuses(hub: FakeHub, policy: Path, waits: Waits) -> None:
    hub.refuse_card = '"license" must be one of [...]'
    with pytest.raises(HubError) as caught:
        send(hub, policy, waits)
    assert '"license" must be one of' in str(caught.value)
    assert waits.ours == []


def test_a_storage_that_refuses_the_content(hub: FakeHub, policy: Path, waits: Waits) -> None:
    """A file that changes while it is sent has not the hash that was announced."""

    def grow(request: Request) -> None:
        if request.path.endswith("objects/batch"):
            (policy / WEIGHTS).write_bytes(bytes(3_072_000))

    hub.after = grow
    with pytest.raises(HubError, match="SHA-256"):
        send(hub, policy, waits)


def test_no_right_to_write(hub: FakeHub, policy: Path, waits: Waits) -> None:
    hub.repositories["ada/cubes"] = Repository()
    hub.users[TOKEN] = User("ada", writes=set())
    with pytest.raises(HubError, match="403: You don't have the rights"):
        send(hub, policy, waits)


def test_a_hub_with_xet(hub: FakeHub, policy: Path, waits: Waits, tmp_path: Path) -> None:
    """The chunks go to a Xet storage through the real hf_xet, whose local storage stands for the service."""
    hf_xet = pytest.importorskip("hf_xet")
    (tmp_path / "cas").mkdir()
    hub.xet = f"local://{tmp_path}/cas"
    send(hub, policy, waits)
    assert not hub.asked("PUT", "storage"), "nothing goes through LFS"
    assert hub.xet_objects.keys() == {WEIGHTS, "policy_preprocessor_step_3_normalizer_processor.safetensors"}
    assert not constants.HF_HUB_DISABLE_XET
    (info,) = hf_xet.hash_files([str(policy / WEIGHTS)])
    assert info.file_size == (policy / WEIGHTS).stat().st_size


def test_the_question_for_the_storage(hub: FakeHub, policy: Path, waits: Waits) -> None:
    hub.fail("GET", "xet-write-token", 503)
    send(hub, policy, waits)
    assert (waits.ours, hub.files("ada/cubes")) == ([2], content(policy))
    hub.fail("GET", "xet-write-token", 403)
    with pytest.raises(HubError, match="asking for the storage"):
        send(hub, policy, waits)
