"""The page shows the findings, the pictures, the numbers and the prompt, and loads nothing from elsewhere."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from check_subjects import SIZE, TASKS, make_subject, write_set
from PIL import Image

from pi05.check.contact_sheets import choose_episodes
from pi05.check.page import FILMS, check_page, write_page
from pi05.check.subject import Subject
from pi05.finding import Finding, error, ok, warning

FOUND: list[Finding] = [
    ok("structure.sound", "files are well"),
    warning("pictures.gaps", "<b>lost</b>", "sees nothing", "leave it out", {"episodes": [3]}),
    error("recipe.relative_actions", "no targets", "goes wrong", "--policy.use_relative_actions=false"),
]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return make_subject(write_set(tmp_path_factory.mktemp("page") / "set", cameras=("front", "wrist"), length=16))


@pytest.fixture(scope="module")
def page(subject: Subject) -> str:
    return check_page(subject, FOUND, "my <set>")


def pictures(text: str) -> list[Image.Image]:
    found = re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", text)
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in found]


def test_findings_come_first_the_worst_at_the_top_and_as_text(page: str) -> None:
    places = [page.index(f"<code>{finding.name}</code>") for finding in reversed(FOUND)]
    assert places == sorted(places)
    assert places[-1] < page.index("What the model sees")
    assert "&lt;b&gt;lost&lt;/b&gt;" in page
    assert "my &lt;set&gt;" in page
    assert "A run goes wrong." in page
    assert "--policy.use_relative_actions=false" in page


def test_the_page_loads_nothing(page: str) -> None:
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    assert not re.search(r"url\(|@import|https?://", page)
    assert len(page) < 2_000_000


def test_sheets_show_every_camera_of_every_episode(page: str, subject: Subject) -> None:
    for camera in subject.dataset.camera_keys:
        sheet = page.split(f"<h2>{camera}</h2>")[1]
        rows = pictures(sheet.split("</div>\n{% endfor")[0])[: subject.dataset.num_episodes]
        assert len(rows) == subject.dataset.num_episodes
        assert all(row.width > 4 * row.height for row in rows)


def test_the_browser_holds_pictures_and_curves_of_the_same_frames(page: str) -> None:
    films = [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', page)]
    assert len(films) == FILMS
    for each in films:
        assert len(each["films"]) == 2
        assert {len(camera) for camera in each["films"]} == {len(each["places"])} == {16}
        assert (each["places"][0], each["places"][-1]) == (0, 1)
    assert page.count('class="cursor"') == FILMS * 4


def test_what_the_model_sees_is_what_the_processor_gives(page: str, subject: Subject) -> None:
    seen = pictures(page.split("What the model sees")[1].split("</table>")[0])
    assert len(seen) == 2 * 3
    dataset, recipe = subject.dataset, subject.recipe
    assert recipe is not None
    number = choose_episodes(subject, FOUND, FILMS)[0]
    frame = dataset.frame(dataset.episodes[number].start + 8)
    wanted = Image.fromarray(recipe.processor.encode(frame).images[0]).resize(seen[0].size)
    assert np.abs(np.asarray(seen[0].convert("RGB"), float) - np.asarray(wanted, float)).mean() < 8
    assert "empty, masked" in page


def test_the_prompt_is_shown_token_by_token(page: str) -> None:
    section = page.split("The prompt, token by token")[1].split("<h2>")[0]
    assert section.count('class="token"') > 20
    assert all(task in section for task in TASKS)


def test_distributions_of_all_dimensions(page: str) -> None:
    assert page.count('class="band"') == 8


def test_a_broken_video_and_no_recipe_still_make_a_page(tmp_path: Path) -> None:
    dataset = write_set(tmp_path / "set", cameras=("front",), length=16, episodes=2)
    next((tmp_path / "set" / "videos").rglob("*.mp4")).write_bytes(b"no video")
    path = write_page(Subject(dataset=dataset, episodes=[0, 1]), FOUND, tmp_path / "out")
    text = path.read_text()
    assert text.count("cannot be decoded") == 2
    assert "What the model sees" not in text


def test_a_set_that_cannot_be_opened_has_a_page_of_findings(tmp_path: Path) -> None:
    text = write_page(None, FOUND, tmp_path, name="broken").read_text()
    assert "recipe.relative_actions" in text
    assert "<details" not in text


def test_episodes_that_findings_name_are_shown(tmp_path: Path) -> None:
    dataset = write_set(tmp_path / "set", episodes=9, length=4)
    subject = Subject(dataset=dataset, episodes=range(9))
    assert choose_episodes(subject, FOUND, 3) == [0, 3, 8]
    assert choose_episodes(subject, [], 3) == [0, 4, 8]
    assert choose_episodes(subject, FOUND, 99) == list(range(9))
    assert SIZE % 2 == 0
