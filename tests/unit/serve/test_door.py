from __future__ import annotations

import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from serving import config, listening, observation
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from pi05.errors import ConfigError, ServeError
from pi05.serve.client import PolicyClient
from pi05.serve.config import KEY_VARIABLE
from pi05.serve.door import encryption, read_key, require_safe

KEY = "correct horse battery"


def status(address: str, path: str = "", **headers: str) -> int:
    request = urllib.request.Request(address.replace("ws", "http", 1) + path, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_key_opens_everything_and_health_needs_none() -> None:
    with listening(key=KEY) as (address, _):
        assert status(address, "/healthz") == 200
        assert status(address, "/metrics") == 401
        assert status(address, "/metrics", Authorization=f"Bearer {KEY}") == 200
        assert status(address, "/metrics", Authorization=f"Api-Key {KEY}") == 200
        for wrong in (KEY, f"Basic {KEY}", f"Api-Key {KEY}x", "Api-Key", "Api-Key ünïcode"):
            assert status(address, "/metrics", Authorization=wrong.encode().decode("latin-1")) == 401
        assert status(address, "/nothing", Authorization=f"Bearer {KEY}") == 404


def test_a_web_page_may_not_connect() -> None:
    with listening() as (address, server):
        page = {"additional_headers": {"Origin": "http://evil.example"}}
        with pytest.raises(InvalidStatus, match="403"), connect(address, **page):
            pass
        assert server.metrics.turned_away["origin"] == 1


def test_where_the_key_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert read_key(None) is None
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert read_key(str(file)) == KEY
    monkeypatch.setenv(KEY_VARIABLE, KEY + "2")
    assert read_key(None) == KEY + "2"
    assert read_key(str(file)) == KEY
    for bad in ("short", "", "with a line\nbreak in it and so on", "schlüssel" * 4):
        file.write_text(bad)
        with pytest.raises(ConfigError, match="cannot be used"):
            read_key(str(file))
    with pytest.raises(ConfigError, match="cannot read the key"):
        read_key(str(tmp_path / "none"))


def test_other_machines_need_a_key() -> None:
    for host in ("127.0.0.1", "127.0.0.9", "::1", "localhost"):
        require_safe(config(host=host), None)
    for host in ("0.0.0.0", "::", "192.168.1.5", "robot.local"):
        with pytest.raises(ConfigError, match="there is no key"):
            require_safe(config(host=host), None)
        require_safe(config(host=host), KEY)


@pytest.mark.process
def test_with_tls(tmp_path: Path) -> None:
    cert, private, other = (str(tmp_path / name) for name in ("cert.pem", "key.pem", "other.pem"))
    for made, out in ((private, cert), (other, str(tmp_path / "other-cert.pem"))):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-keyout", made, "-out", out, "-days", "2", "-subj", "/CN=robot",
             "-addext", "subjectAltName=IP:127.0.0.1"],
            check=True, capture_output=True,
        )  # fmt: skip
    trusting = ssl.create_default_context(cafile=cert)
    with listening(tls_cert=cert, tls_key=private) as (address, _):
        assert address.startswith("wss://")
        with PolicyClient(address, tls=trusting) as robot:
            assert robot.infer(observation())["actions"].shape == (10, 7)
        with pytest.raises(ServeError, match="no policy server"):
            PolicyClient(address.replace("wss", "ws"))
        with pytest.raises(ServeError, match="certificate"):
            PolicyClient(address)  # nobody vouches for it
    with pytest.raises(ServeError, match="the certificate cannot be used"):
        encryption(config(tls_cert=cert, tls_key=other))
    locked = str(tmp_path / "locked.pem")
    lock = ["openssl", "pkey", "-in", private, "-aes256", "-passout", "pass:secret", "-out", locked]
    subprocess.run(lock, check=True, capture_output=True)
    with pytest.raises(ServeError, match="the private key is encrypted"):  # and nobody is asked for the passphrase
        encryption(config(tls_cert=cert, tls_key=locked))
    with pytest.raises(ServeError, match="cannot read the certificate"):
        encryption(config(tls_cert=str(tmp_path / "none.pem"), tls_key=private))
