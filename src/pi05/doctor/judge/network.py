"""Hub or mirror, login, the gated tokenizer, proxies."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from pi05.doctor.facts import Answer, Machine, Network
from pi05.doctor.hub_address import is_address
from pi05.doctor.remedies import install
from pi05.finding import Finding, error, note, ok, warning
from pi05.sources.client import HUB
from pi05.sources.names import PALIGEMMA

LICENCE = f"https://huggingface.co/{PALIGEMMA}"
LOG_IN = "hf auth login"
NO_DOWNLOAD = "downloads neither base, tokenizer nor data; with folders of your own it does not need to"


def judge_network(facts: Network, machine: Machine) -> Iterator[Finding]:
    """Yield what is to be said about the way to the hub."""
    if not facts.client:
        yield note(
            "hub.client",
            "the hub's client is not installed",
            "neither downloads nor publishes",
            install(machine, "huggingface-hub>=1.33"),
        )
    yield from _proxies(facts, machine)
    yield from _hub(facts)
    yield from _tokenizer(facts)


def _proxies(facts: Network, machine: Machine) -> Iterator[Finding]:
    if not facts.socks:
        yield error(
            "proxy.socks",
            "a SOCKS proxy is set, and the hub's client cannot use one without the package socksio",
            "fails at every connection",
            install(machine, "httpx[socks]"),
        )
    if facts.directly is not None and facts.directly.status is not None and facts.hub is not None:
        host = urlsplit(facts.endpoint).hostname
        named = " and ".join(f"{name}={value}" for name, value in facts.proxies.items() if "no_" not in name.lower())
        yield error(
            "proxy.blocks",
            f"{facts.endpoint} answers directly, and not through the proxy ({named}): {facts.hub.fault}",
            "downloads nothing",
            f"export NO_PROXY={host},$NO_PROXY",
        )


def _hub(facts: Network) -> Iterator[Finding]:
    address = facts.endpoint
    if not is_address(address):
        yield error(
            "hub.address",
            f"HF_ENDPOINT={address} is no address",
            "downloads nothing",
            f"export HF_ENDPOINT={HUB}",
        )
    elif facts.offline is not None:
        yield note("hub.offline", f"not asked: {facts.offline} is set")
    elif facts.hub is not None:
        yield from _answer(facts, facts.hub)
        yield from _login(facts)


def _answer(facts: Network, answer: Answer) -> Iterator[Finding]:
    address = facts.endpoint
    other = (
        "export HF_ENDPOINT=https://hf-mirror.com" if address == HUB else "unset HF_ENDPOINT  # or name another mirror"
    )
    if answer.fault is not None:
        if facts.directly is None or facts.directly.status is None:
            yield warning("hub.silent", f"{address} cannot be reached: {answer.fault}", NO_DOWNLOAD, other)
    elif answer.page:
        yield warning(
            "hub.page",
            f"{address} answers with a web page in the place of data: a login page of the network, or no mirror",
            "downloads web pages, and refuses them",
            other,
        )
    elif answer.status in (429, 503):
        yield warning(
            "hub.busy",
            f"{address} asks to come back later (status {answer.status})",
            "waits",
            f"{LOG_IN}  # who is known may ask more often",
        )
    elif answer.status is not None and answer.status >= 400:
        yield warning(
            "hub.refuses", f"{address} answers with status {answer.status} for a public repository", NO_DOWNLOAD, other
        )
    else:
        yield ok("hub.ok", f"{address} answers")


def _login(facts: Network) -> Iterator[Finding]:
    login = facts.login
    if facts.token is None:
        yield note("hub.no_token", "no login", "downloads what is public, and publishes nothing", LOG_IN)
    elif login is not None and login.status in (401, 403):
        yield warning(
            "hub.token",
            f"the token from {facts.token} is refused (status {login.status})",
            "downloads nothing that is gated or private, and publishes nothing",
            f"unset {facts.token} && {LOG_IN}" if facts.token.isupper() else LOG_IN,
        )
    elif login is not None and isinstance(login.data, dict):
        role = f", a token with role {login.data['role']}" if login.data.get("role") else ""
        yield ok("hub.login", f"{login.data.get('name')}{role}")
    elif login is not None:
        yield note("hub.login_unknown", f"{facts.endpoint} does not tell whose the token from {facts.token} is")


def _tokenizer(facts: Network) -> Iterator[Finding]:
    answer = facts.tokenizer
    if facts.local_tokenizer is not None:
        yield ok("tokenizer.local", f"in {facts.local_tokenizer}; no access to the hub is needed for it")
    elif answer is None:
        if facts.offline is not None:
            yield note(
                "tokenizer.absent",
                "PaliGemma's tokenizer is not here",
                "from a base of LeRobot or openpi needs it; the packaged base brings its own",
                "pi05 fetch tokenizer",
            )
    elif answer.status in (401, 403) and facts.token is None:
        yield warning(
            "tokenizer.gated",
            "PaliGemma's tokenizer is gated, and there is no login",
            "from a base of LeRobot or openpi needs it; the packaged base brings its own",
            f"{LOG_IN}  # after accepting the licence at {LICENCE}",
        )
    elif answer.status in (401, 403):
        yield warning(
            "tokenizer.licence",
            f"PaliGemma's tokenizer is refused (status {answer.status}), with the token from {facts.token}",
            "from a base of LeRobot or openpi needs it; the packaged base brings its own",
            f"accept the licence at {LICENCE}; a fine-grained token needs access to gated repositories",
        )
    elif answer.fault is not None or (answer.status or 0) >= 400 or answer.page:
        yield warning(
            "tokenizer.not_served",
            f"{facts.endpoint} does not serve PaliGemma's tokenizer: {answer.fault or f'status {answer.status}'}",
            "from a base of LeRobot or openpi needs it; mirrors often lack what is gated",
            "copy a folder with its tokenizer.json to paligemma_model/, or unset HF_ENDPOINT for this download",
        )
    else:
        yield ok("tokenizer.ok", "PaliGemma's tokenizer may be downloaded")
