"""The page for three in the morning names boards, panels, alerts and metrics that there are."""

from __future__ import annotations

import json
import re

from deploy.grafana.__main__ import FOLDER
from tests.support.boards import panels
from tests.support.exported import ROOT, rules, series

DOCS = ROOT / "docs"
PAGE = (DOCS / "operating.md").read_text("utf-8")


def test_it_names_every_alert_and_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (DOCS / link).exists(), link
    assert {rule["alert"] for rule in rules() if "alert" in rule} == set(
        re.findall(r"^\| \[(\w+)\]", PAGE, re.MULTILINE)
    )


def test_panels_that_it_and_the_runbooks_name_are_on_a_board() -> None:
    titles = {
        text
        for file in FOLDER.glob("*.json")
        for panel in json.loads(file.read_text("utf-8"))["panels"]
        for text in (panel["title"],)
    }
    pages = [PAGE, *(path.read_text("utf-8") for path in (DOCS / "runbooks").glob("*.md"))]
    named = {" ".join(name.split()) for page in pages for name in _emphasised(page)}
    assert {name for name in named if name not in titles} == set()
    assert len(named) > 20


def _emphasised(page: str) -> list[str]:
    text = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    return re.findall(r"(?<!\*)\*([A-Z][^*]+?)\*(?!\*)", re.sub(r"\*\*[^*]+\*\*", "", text))


def test_boards_and_metrics_that_it_names_are_there() -> None:
    titles = {
        json.loads(file.read_text("utf-8"))["title"].partition(" / ")[2]
        for file in FOLDER.glob("*.json")
    }
    assert set(re.findall(r"[Bb]oard \*\*([^*]+)\*\*", PAGE)) <= titles
    exported = series()
    for metric in re.findall(r"`(postroad_\w+)(?:\{[^`]*)?`", PAGE):
        assert metric in exported, metric


def test_pictures_are_of_boards() -> None:
    boards = {file.stem.removeprefix("postroad-") for file in FOLDER.glob("*.json")}
    assert {path.stem for path in (DOCS / "pictures").glob("*.svg")} == boards
    assert all(panels(json.loads(file.read_text("utf-8"))) for file in FOLDER.glob("*.json"))
