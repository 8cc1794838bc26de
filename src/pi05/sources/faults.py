"""What can go wrong between here and the hub: which faults pass if one waits, and what a user does about the others.

The client (`huggingface_hub`) repeats some requests by itself, a few times within half a minute; others, among them the
commit, it sends once. Around both stands `Patience`, which waits longer each time and as long as the hub asks for.
What reading asks of a user is in `client.py`, what is sent in `hub/upload.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pi05.errors import HubError

T = TypeVar("T")
Say = Callable[[str], None]

PASSING = {408, 409, 412, 425, 429}
"""HTTP statuses, besides 5xx, of a fault that may pass: somebody else's commit is one (409, 412)."""
LOG_IN = "hf auth login, or set HF_TOKEN; the token needs the right to write: https://huggingface.co/settings/tokens"


@dataclass(frozen=True)
class Fault:
    """What an exception means. `remedy` is None for a fault that may pass."""

    found: str
    remedy: str | None = None
    wait_s: float | None = None
    """How long the hub asks to wait."""
    status: int | None = None


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to go on trying. Waits double from `first_wait_s` to `longest_wait_s`, about five minutes in all."""

    attempts: int = 8
    first_wait_s: float = 2.0
    longest_wait_s: float = 120.0
    sleep: Callable[[float], None] = time.sleep
    judged_by: Callable[[BaseException], Fault | None] | None = None
    """Who says what an exception means; `judge`, which speaks of writing, when not given."""

    def waits(self) -> Iterator[float]:
        """Yield the waits between the attempts."""
        for attempt in range(self.attempts - 1):
            yield min(self.longest_wait_s, self.first_wait_s * 2**attempt)

    def run(self, what: str, action: Callable[[], T], say: Say, *, remedy: str | None = None) -> T:
        """Return what `action` returns, and repeat it after faults that may pass.

        Raises HubError for one that does not, and when patience is at its end; `remedy` is then what to do.
        """
        waits = self.waits()
        while True:
            try:
                return action()
            except Exception as error:
                fault = (self.judged_by or judge)(error)
                if fault is None:
                    raise
                wait = next(waits, None)
                if fault.remedy is not None or wait is None:
                    raise refusal(what, fault, remedy) from error
                wait = max(wait, fault.wait_s or 0.0)
                say(f"{what}: {fault.found}; trying again in {wait:g} s")
                self.sleep(wait)


def refusal(what: str, fault: Fault, remedy: str | None = None) -> HubError:
    """Return the error for a fault that ends the work."""
    later = remedy or "try again later"
    return HubError(f"{what} failed", found=fault.found, remedy=fault.remedy or later)


def judge(error: BaseException) -> Fault | None:
    """Return what an exception of the client means; None for one that is no fault of hub or network."""
    for link in causes(error):
        response = getattr(link, "response", None)
        if response is not None and hasattr(response, "status_code"):
            return judge_answer(response.status_code, dict(response.headers), message_of(link))
        names = {cls.__name__ for cls in type(link).__mro__}
        if "OfflineModeIsEnabled" in names:
            return Fault("HF_HUB_OFFLINE is set, so nothing is sent", "unset HF_HUB_OFFLINE")
        if "LocalTokenNotFoundError" in names:
            return Fault("no token", LOG_IN)
        if "XetAuthenticationError" in names:
            return Fault(f"the storage refused the upload: {text_of(link)}", LOG_IN)
        if names & {"UnsupportedProtocol", "InvalidURL"}:
            return Fault(text_of(link), "correct HF_ENDPOINT, or --endpoint")
        if names & {"TransportError", "ConnectionError", "TimeoutError"}:  # httpx's, hf_xet's
            return Fault(f"no connection: {text_of(link) or type(link).__name__}")
        if isinstance(link, json.JSONDecodeError):  # a proxy's error page in the place of an answer
            return Fault("the answer is not one of a hub")
    if type(error) is ValueError:  # the client's word for metadata or files that the hub does not take
        return Fault(text_of(error), "correct what the hub refuses, and push again")
    alone = error.__cause__ is None and error.__context__ is None
    return Fault(text_of(error)) if type(error) is RuntimeError and alone else None  # hf_xet says only this much


def judge_answer(status: int, headers: dict[str, str], said: str) -> Fault:
    """Return what an HTTP status means."""
    found = f"{status}: {said}"
    if status == 401:
        return Fault(found, LOG_IN, status=status)
    if status == 403:
        remedy = (
            "use a token that may write there, or another --repo_id; in an organisation, ask for the right to write"
        )
        return Fault(found, remedy, status=status)
    if status == 404:
        return Fault(found, "correct the name of the repository, or log in as somebody who sees it", status=status)
    if status in PASSING or status >= 500:
        return Fault(found, wait_s=asked_wait(headers), status=status)
    return Fault(found, "correct what the hub refuses, and push again", status=status)


def asked_wait(headers: dict[str, str]) -> float | None:
    """Return the seconds that an answer asks to wait: `Retry-After`, or the reset time of the hub's rate limit."""
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    if lower.get("retry-after", "").isdigit():
        return float(lower["retry-after"])
    reset = [part.partition("=")[2] for part in lower.get("ratelimit", "").split(";") if part.strip().startswith("t=")]
    return float(reset[0]) if reset and reset[0].isdigit() else None


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it was raised from."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def message_of(error: Any) -> str:
    """Return what the hub itself said, in one line, or else what the client makes of it."""
    return " ".join(str(getattr(error, "server_message", None) or "").split()) or text_of(error)


def text_of(error: BaseException) -> str:
    """Return an exception's text in one line of bounded length."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."
