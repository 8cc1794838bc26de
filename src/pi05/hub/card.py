"""The card of a published policy: front matter for the hub, then the same facts in English and in Chinese.

The words are in `card.en.md` and `card.zh.md`, the facts in `facts.py`. Front matter names only what is certain: no
licence, no base and no data set where nobody has stated one.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from pi05.errors import visible
from pi05.hub.facts import Facts, hub_name
from pi05.train.records.durations import duration

HERE = Path(__file__).parent
TAGS = ("robotics", "lerobot", "pi05", "vla")


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What is said about the publication itself."""

    repo_id: str
    date: str
    """ISO 8601, day only."""
    license: str | None = None
    tags: tuple[str, ...] = ()
    adapter_only: bool = False
    revision: str = "main"


def render_card(facts: Facts, publication: Publication) -> str:
    """Return the text of README.md."""
    words = _context(facts, publication)
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
        autoescape=False,
        finalize=cell,
    )
    environment.filters |= {
        "duration": duration,
        "n": number,
        "f": decimal,
        "known": known,
        "percent": percent,
        "code": code,
    }
    parts = [
        environment.from_string((HERE / f"card.{language}.md").read_text("utf-8")).render(words)
        for language in ("en", "zh")
    ]
    matter = yaml.safe_dump(front_matter(facts, publication), allow_unicode=True, sort_keys=False)
    return f"---\n{matter}---\n\n" + "\n\n---\n\n".join(part.strip() for part in parts) + "\n"


def front_matter(facts: Facts, publication: Publication) -> dict[str, Any]:
    """Return what the hub reads: it indexes models by these values."""
    base = hub_name((facts["base"] or {}).get("name"))
    data = hub_name(facts["data"].get("name"))
    values: dict[str, Any] = {"language": ["en", "zh"], "license": publication.license}
    if base is not None:
        values |= {"base_model": base, "base_model_relation": "adapter" if publication.adapter_only else "finetune"}
    values |= {"library_name": "lerobot", "pipeline_tag": "robotics"}
    values |= {"datasets": [data] if data is not None else None}
    values |= {"tags": list(dict.fromkeys((*TAGS, *publication.tags)))}
    return {name: value for name, value in values.items() if value is not None}


def _context(facts: Facts, publication: Publication) -> dict[str, Any]:
    sessions = facts["sessions"]
    dates = [session["ended"] or session["date"] for session in sessions if session["ended"] or session["date"]]
    repo_id, policy = publication.repo_id, facts["policy"]
    own = next((e for e in facts["evaluations"] if e["this"] and e["env"]), None)
    branch = "" if publication.revision == "main" else f" --revision {publication.revision}"
    return {
        **facts,
        "title": repo_id.split("/")[-1],
        "published": publication.date,
        "trained_on": dates[-1] if dates else None,
        "license": publication.license,
        "adapter_only": publication.adapter_only,
        "download": Written(f"hf download {repo_id}{branch} --local-dir policy"),
        "snippet": Written(snippet(facts, publication.adapter_only)),
        "pi05_eval": own
        and Written(f"pi05 eval --policy.path=policy --env={_word(own['env'])} --family={_word(own['family'])}"),
        "lerobot": Written(lerobot_lines(repo_id, policy["relative"])) if policy["full_size"] else None,
    }


def snippet(facts: Facts, adapter_only: bool) -> str:
    """Return the lines of Python that ask the policy for actions."""
    policy = facts["policy"]
    entries = [f"    {_quoted(camera)}: picture,  # uint8 [height, width, 3]" for camera in policy["cameras"].values()]
    entries += [f'    "observation.state": state,  # float32 [{policy["state"]}]']
    entries += [f'    "task": {_quoted(facts["task"] or "what to do")},']
    rate = "" if policy["fps"] is None else f", {number(policy['fps'])} Hz"
    load = 'Policy.load("policy", base="base")' if adapter_only else 'Policy.load("policy")'
    shape = f"float32 [{policy['horizon']}, {policy['actions']}]{rate}"
    lines = ["from pi05 import Policy", "", f"policy = {load}", "observation = {", *entries, "}"]
    return "\n".join([*lines, f'actions = policy.infer(observation)["actions"]  # {shape}'])


def lerobot_lines(repo_id: str, relative: bool) -> str:
    """Return LeRobot's commands for a robot and for a simulator; what the run does not know is left to fill in."""
    rollout = (
        f"lerobot-rollout --policy.path={repo_id} --robot.type=... --robot.port=... --robot.cameras=... --task=..."
    )
    engine = " --inference.type=rtc" if relative else ""
    return f"{rollout}{engine}\nlerobot-eval --policy.path={repo_id} --env.type=..."


def number(value: Any, unknown: str = "") -> str:
    """Return a whole number with separators, or a fraction as short as it is; `unknown` for None."""
    if value is None:
        return unknown
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"


def decimal(value: Any, unknown: str = "") -> str:
    """Return a measured number to four digits; `unknown` for None."""
    return unknown if value is None else f"{value:.4g}"


def percent(value: Any) -> str:
    """Return a share as a percentage."""
    return "?" if value is None else f"{100 * value:.1f} %"


def known(value: Any, unknown: str) -> Any:
    """Return a value, or the word for one that is not known."""
    return unknown if value is None or value == "" else value


class Written(str):
    """Markdown that stands on the card as it is; every other value goes through `cell`."""

    __slots__ = ()


def cell(value: Any) -> str:
    """Return a text that cannot break out of a table's cell; what is written in Markdown already, as it is."""
    if isinstance(value, Written):
        return value
    text = " ".join(visible(str(value)).split())
    return Written(re.sub(r"([|<>\[\]`*\\])", r"\\\1", text))


def code(value: Any) -> Written:
    """Return a text that cannot break out of a span of code in a table's cell."""
    return Written(" ".join(visible(str(value)).split()).replace("`", "'").replace("|", "\\|"))


def _word(value: Any) -> str:
    """Return one word of a command line."""
    return shlex.quote(" ".join(visible(str(value)).split()))


def _quoted(text: str) -> str:
    return '"' + " ".join(visible(text).split()).replace("\\", "\\\\").replace('"', '\\"') + '"'
