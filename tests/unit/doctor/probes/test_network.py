"""What the hub is asked, and what is not asked: offline nothing at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from fetching import use_home

from pi05.doctor.facts import Answer, Network
from pi05.doctor.hub_address import PUBLIC, TOKENIZER
from pi05.doctor.probes.network import find_tokenizer, probe_network
from pi05.sources.client import HUB

WHOAMI = {"name": "me", "email": "me@example.org", "auth": {"accessToken": {"role": "read"}}}


class Web:
    """Answers by the end of the address, and remembers what it was asked."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str | None]] = []

    def __call__(self, url: str, *, token: str | None = None, directly: bool = False, method: str = "GET") -> Answer:
        self.asked.append((url, token))
        kind = "directly" if directly else {PUBLIC: "hub", "api/whoami-v2": "login"}.get(url.split("/", 3)[3], "file")
        return self.answers.get(kind, Answer(status=200))


def probe(web: Web, home: Path, offline: bool = False, **environment: str) -> Network:
    environment = {"HOME": str(home), **environment}
    return probe_network(offline=offline, ask=web, environment=environment, has_module=lambda _: False)


def test_the_hub_is_asked_for_public_facts_who_one_is_and_the_gated_tokenizer(tmp_path: Path) -> None:
    web = Web(login=Answer(status=200, data=WHOAMI))
    found = probe(web, tmp_path, HF_TOKEN="hf_secret")
    assert web.asked == [
        (f"{HUB}/{PUBLIC}", None),
        (f"{HUB}/api/whoami-v2", "hf_secret"),
        (f"{HUB}/{TOKENIZER}", "hf_secret"),
    ]
    assert found.login == Answer(status=200, data={"name": "me", "role": "read"})
    assert found.token == "HF_TOKEN"
    assert "hf_secret" not in repr(found)
    assert "example.org" not in repr(found)


@pytest.mark.parametrize(
    ("offline", "environment", "why"),
    [
        (True, {}, "--offline"),
        (False, {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
        (False, {"TRANSFORMERS_OFFLINE": "yes"}, "TRANSFORMERS_OFFLINE"),
    ],
)
def test_offline_asks_nothing(offline: bool, environment: dict[str, str], why: str, tmp_path: Path) -> None:
    web = Web()
    assert probe(web, tmp_path, offline, **environment).offline == why
    assert web.asked == []


def test_a_mirror_that_only_answers_without_the_proxy(tmp_path: Path) -> None:
    web = Web(hub=Answer(fault="Tunnel connection failed"))
    found = probe(web, tmp_path, HF_ENDPOINT="https://mirror/", https_proxy="http://user:pass@proxy:1", no_proxy="a")
    assert found.directly == Answer(status=200)
    assert found.proxies == {"https_proxy": "http://***@proxy:1", "no_proxy": "a"}
    assert web.asked == [(f"https://mirror/{PUBLIC}", None)] * 2
    assert probe(Web(hub=Answer(fault="no")), tmp_path, no_proxy="a").directly is None


def test_the_token_is_found_where_the_client_finds_it(tmp_path: Path) -> None:
    assert probe(Web(), tmp_path).token is None
    file = tmp_path / ".cache" / "huggingface" / "token"
    file.parent.mkdir(parents=True)
    file.write_text(" \n")
    assert probe(Web(), tmp_path).token is None
    file.write_text("hf_file\n")
    web = Web()
    assert probe(web, tmp_path).token == str(file)
    assert web.asked[1][1] == "hf_file"
    other = tmp_path / "other"
    other.write_text("hf_other")
    assert probe(Web(), tmp_path, HF_TOKEN_PATH=str(other)).token == str(other)


def test_a_tokenizer_is_found_where_a_run_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the hub's cache, in scripts/, beside it, in the working directory: the later ones go first."""
    use_home(monkeypatch, tmp_path / "home")
    lab = tmp_path / "lab"
    (lab / "scripts").mkdir(parents=True)
    monkeypatch.chdir(lab)
    assert find_tokenizer() is None
    cached = tmp_path / "home" / "hub" / "models--google--paligemma-3b-pt-224"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("a" * 40)
    for folder in (cached / "snapshots" / ("a" * 40), lab / "scripts" / "paligemma_model", lab / "paligemma_model"):
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").write_text("{}")
        assert find_tokenizer() == str(folder)
    assert probe(Web(), tmp_path).local_tokenizer == str(lab / "paligemma_model")
    monkeypatch.chdir(lab / "scripts")
    (lab / "scripts" / "paligemma_model" / "tokenizer.json").unlink()
    assert find_tokenizer() == str(lab / "paligemma_model"), "beside scripts/"


def test_a_socks_proxy_and_an_impossible_endpoint(tmp_path: Path) -> None:
    assert not probe(Web(), tmp_path, ALL_PROXY="socks5h://localhost:1080").socks
    assert probe(Web(), tmp_path, HTTPS_PROXY="http://localhost:3128").socks
    web = Web()
    assert probe(web, tmp_path, HF_ENDPOINT="hf-mirror.com").endpoint == "hf-mirror.com"
    assert web.asked == []
