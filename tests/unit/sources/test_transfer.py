"""Downloads through the real client over a bad network: whole files under their names, or none and a clear error."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from fake_hub import FakeHub, content
from fetching import FILES, MODEL, WEIGHTS, Line

from pi05.errors import HubError
from pi05.sources.client import Endpoint, endpoints
from pi05.sources.transfer import alone, hash_file, mismatch

LARGE = "/resolve/.*model.safetensors"


def whole(folder: Path) -> bool:
    return content(folder) == FILES


def refused(line: Line, *names: str) -> HubError:
    """Return the error of a fetch, after which nothing half lies under a file's name."""
    with pytest.raises(HubError) as caught:
        line.fetch(*names)
    for name, data in content(line.folder).items():
        assert name.endswith(".part") or data == FILES[name]
    return caught.value


def test_all_files_arrive(line: Line, hub: FakeHub) -> None:
    assert whole(line.fetch())
    assert line.waited == []
    assert len(hub.asked("GET", "/resolve/")) == 3
    assert all("pi05" in request.headers["user-agent"] for request in hub.asked("GET", "/resolve/"))


@pytest.mark.parametrize("seed", range(4))
def test_cuts_at_random_bytes_lose_nothing(seed: int, line: Line, hub: FakeHub) -> None:
    rng = random.Random(seed)
    cuts = [rng.randrange(1, 2500) for _ in range(12)]
    for cut in cuts:
        hub.fail("GET", LARGE, stop_at=cut)
    assert whole(line.fetch())
    starts = [int(r.headers["Range"][6:-1]) for r in hub.asked("GET", LARGE) if "Range" in r.headers]
    assert starts == sorted(starts)
    arrived = 0
    for cut, start in zip(cuts, starts, strict=False):  # every byte that was sent is kept
        arrived += cut
        assert start == arrived
    assert set(line.waited) == {1.0}, "what brings something is no failure: the waits do not grow"


def test_a_connection_that_is_cut_before_every_answer_ends_in_an_error(line: Line, hub: FakeHub) -> None:
    hub.fail("GET", LARGE, cut="before", times=99)
    error = refused(line)
    assert "no connection" in str(error.found)
    assert "goes on where it stopped" in error.remedy
    assert line.waited == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_what_arrived_is_gone_on_with_in_the_next_call(line: Line, hub: FakeHub) -> None:
    hub.fail("GET", LARGE, stop_at=3000)
    hub.fail("GET", LARGE, 500, times=6)
    refused(line)
    assert (line.folder / "model.safetensors.part").stat().st_size == 3000
    before = len(hub.asked("GET", LARGE))
    assert line.fetch() / "model.safetensors"
    assert (line.folder / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.asked("GET", LARGE)[before].headers["Range"] == "bytes=3000-"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_statuses_that_pass_are_waited_for(status: int, line: Line, hub: FakeHub) -> None:
    hub.fail("GET", LARGE, status, times=3)
    assert whole(line.fetch())
    assert line.waited == [1.0, 2.0, 4.0]
    assert any(f"{status}" in said and "going on in" in said for said in line.said)


def test_the_wait_that_the_hub_asks_for_is_kept(line: Line, hub: FakeHub) -> None:
    hub.fail("GET", LARGE, 429, headers={"Retry-After": "17"})
    hub.fail("GET", LARGE, 429, headers={"RateLimit": '"api";r=0;t=33'})
    assert whole(line.fetch())
    assert line.waited == [17.0, 33.0]


@pytest.mark.parametrize(
    ("status", "headers", "said", "remedy"),
    [
        (401, {"X-Error-Code": "GatedRepo"}, "401", "accept the licence at https://huggingface.co/lab/model"),
        (403, {"X-Error-Code": "GatedRepo"}, "403", "hf auth login"),
        (403, {}, "403", "token that may read"),
        (404, {"X-Error-Code": "EntryNotFound"}, "404", "another address"),
        (404, {"X-Error-Code": "RepoNotFound"}, "no model lab/model", "check the name at https://huggingface.co/lab"),
    ],
)
def test_refusals_are_explained(
    status: int, headers: dict[str, str], said: str, remedy: str, line: Line, hub: FakeHub
) -> None:
    hub.fail("GET", LARGE, status, headers=headers, times=9)
    error = refused(line)
    assert said in str(error.found)
    assert remedy in error.remedy
    assert line.waited == []


def test_a_part_that_is_longer_than_the_servers_file_begins_anew(line: Line, hub: FakeHub) -> None:
    line.folder.mkdir()
    (line.folder / "model.safetensors.part").write_bytes(WEIGHTS[:3000])
    hub.fail("GET", LARGE, 416)
    assert whole(line.fetch())
    assert "Range" not in hub.asked("GET", LARGE)[-1].headers


@pytest.mark.parametrize("wrong", [WEIGHTS[:-1] + b"\0", b"", WEIGHTS[:-1], WEIGHTS + b"more"])
def test_content_that_is_not_the_hubs_is_fetched_anew(wrong: bytes, line: Line, hub: FakeHub) -> None:
    hub.fail("GET", LARGE, 200, body=wrong)
    if wrong == WEIGHTS + b"more":
        assert "more comes than" in str(refused(line).found)
    assert whole(line.fetch())


def test_content_that_stays_wrong_is_refused(line: Line, hub: FakeHub) -> None:
    hub.fail("GET", LARGE, 200, body=WEIGHTS[:-1] + b"\0", times=9)
    error = refused(line)
    assert "damaged" in str(error.found)
    assert "SHA-256" in str(error.found)
    assert "another address" in error.remedy


def test_small_files_are_proven_by_gits_hash(line: Line, hub: FakeHub) -> None:
    hub.fail("GET", "README", 200, body=b"# a modeL\n", times=9)
    assert "git's SHA-1" in str(refused(line, "README.md").found)


def test_a_damaged_part_of_an_earlier_call_does_not_stay(line: Line, hub: FakeHub) -> None:
    line.folder.mkdir()
    (line.folder / "model.safetensors.part").write_bytes(b"x" * 100)
    assert whole(line.fetch())
    assert any("fetching it anew" in said for said in line.said)


def test_a_server_without_ranges_sends_all_of_it_again(line: Line, hub: FakeHub) -> None:
    hub.fail("GET", LARGE, stop_at=4000)
    hub.fail("GET", LARGE, 200, body=WEIGHTS)
    assert whole(line.fetch())


def test_a_web_page_with_status_200_is_no_file(line: Line, hub: FakeHub) -> None:
    page = {"Content-Type": "text/html; charset=utf-8"}
    hub.fail("GET", LARGE, 200, body=b"<html>Log in to the campus network</html>", headers=page, times=9)
    error = refused(line)
    assert "a web page comes in the place of the file" in str(error.found)
    assert "--mirror" in error.remedy


def test_a_web_page_in_the_place_of_a_listing(line: Line, hub: FakeHub) -> None:
    hub.fail("GET", "/api/models", 200, body=b"<html>", headers={"Content-Type": "text/html"}, times=9)
    error = refused(line)
    assert "not one of a hub" in str(error.found)
    assert "--mirror" in error.remedy


def test_a_stalled_connection_is_given_up_and_gone_on_with(line: Line, hub: FakeHub) -> None:
    line.silence_s = 0.2
    never = threading.Event()
    hub.fail("GET", LARGE, stop_at=1000, hold=never)
    assert whole(line.fetch())
    never.set()
    assert hub.asked("GET", LARGE)[1].headers["Range"] == "bytes=1000-"


def test_a_mirror_that_redirects_elsewhere(line: Line, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    with FakeHub() as other:
        other.publish(MODEL, FILES)
        for name in FILES:
            to = other.url + f"/{MODEL}/resolve/main/{name}"
            hub.fail("GET", f"/resolve/.*{name}", 302, headers={"Location": to})
        line.addresses = endpoints()
        assert whole(line.fetch())
        assert all("authorization" in request.headers for request in hub.asked("GET", "/resolve/"))
        assert all("authorization" not in request.headers for request in other.requests), "nobody else gets the token"


def test_mirrors_are_tried_in_turn_and_get_no_token(line: Line, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    with FakeHub() as broken, FakeHub() as half:
        half.publish(MODEL, FILES)
        broken.fail("GET", "/api/", 503, times=99)
        half.fail("GET", LARGE, 404, times=9, headers={"X-Error-Code": "EntryNotFound"})
        line.addresses = endpoints([broken.url + "/", half.url])
        assert [endpoint.address for endpoint in line.addresses] == [broken.url, half.url, hub.url]
        hub.repositories[MODEL] = half.repositories[MODEL]
        assert whole(line.fetch())
        assert [request.path for request in hub.requests] == [hub.asked("GET", LARGE)[0].path]
        assert not any("authorization" in request.headers for request in (*broken.requests, *half.requests))
        assert "authorization" in hub.requests[0].headers
    assert any(f"trying {half.url}" in said for said in line.said)


def test_what_every_mirror_said_is_in_the_error(line: Line, hub: FakeHub) -> None:
    with FakeHub() as empty:
        hub.repositories[MODEL].accepted = set()
        line.addresses = endpoints([empty.url])
        hub.fail("GET", "/resolve/", 401, headers={"X-Error-Code": "GatedRepo"}, times=9)
        error = refused(line)
        assert empty.url in str(error.found)
        assert "accept the licence" in error.remedy


def test_room_is_asked_for_first(line: Line, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pi05.files.free_bytes", lambda folder: 1000)
    error = refused(line)
    assert "no room on the disk for lab/model" in error.problem
    assert hub.asked("GET", "/resolve/") == []


def test_the_large_file_failing_stops_the_others(line: Line, hub: FakeHub) -> None:
    hub.publish(MODEL, {**FILES, **{f"{i}.json": b"{}" * 50 for i in range(30)}})
    hub.fail("GET", LARGE, 403, times=9)
    listing = line.listing()
    assert len(listing.files) == 33
    with pytest.raises(HubError):
        line.fetch()


def test_only_one_at_a_time(tmp_path: Path) -> None:
    said: list[str] = []
    order: list[str] = []
    inside, go = threading.Event(), threading.Event()

    def first() -> None:
        with alone(tmp_path / "lock", "it", said.append):
            inside.set()
            go.wait(10)
            order.append("first")

    def second() -> None:
        with alone(tmp_path / "lock", "it", said.append):
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    inside.wait(10)
    threads[1].start()
    while not said:
        pass
    go.set()
    for thread in threads:
        thread.join()
    assert order == ["first", "second"]
    assert "waiting" in said[0]


def test_a_hash_is_compared_by_kind(line: Line, tmp_path: Path) -> None:
    files = line.listing().files
    path = tmp_path / "file"
    path.write_bytes(WEIGHTS)
    assert mismatch(path, files["model.safetensors"]) is None
    assert hash_file(path) == files["model.safetensors"].sha256
    path.write_bytes(FILES["README.md"])
    assert mismatch(path, files["README.md"]) is None
    assert "bytes where" in str(mismatch(path, files["model.safetensors"]))
    assert "bytes where" in str(mismatch(tmp_path / "nothing", files["README.md"]))


def test_an_endpoint_keeps_its_token_to_itself() -> None:
    assert "secret" not in repr(Endpoint(address="http://x", token="secret"))
