"""The dashboards: as generated, parsed by Prometheus, and about metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.__main__ import FOLDER, main
from shared.catalogue import CATALOGUE
from tests.support.boards import expressions, panels, plain
from tests.support.exported import ROOT, faults, rules
from tests.support.promtool import promtool

FILES = sorted(FOLDER.glob("*.json"))
UIDS = {
    "postroad-overview", "postroad-acceptance", "postroad-delivery", "postroad-retries",
    "postroad-queues", "postroad-runtime",
}  # fmt: skip
"""Links and bookmarks hold them."""


def boards() -> Iterator[dict[str, Any]]:
    for file in FILES:
        yield json.loads(file.read_text("utf-8"))


def every_panel() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for board in boards():
        for panel in panels(board):
            yield board, panel


def test_the_committed_files_are_what_make_dashboards_writes(tmp_path: Path) -> None:
    main(tmp_path)
    written = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_text("utf-8") for path in FILES}, "make dashboards"


def test_uids_are_stable_and_ids_are_left_to_grafana() -> None:
    assert {board["uid"] for board in boards()} == UIDS
    assert not any(board.get("id") for board in boards())


def test_prometheus_parses_every_expression(tmp_path: Path) -> None:
    found = [plain(text) for board in boards() for text in expressions(board)]
    assert len(found) > 80
    group = {
        "name": "boards",
        "rules": [{"record": f"board:{n}", "expr": text} for n, text in enumerate(found)],
    }
    (tmp_path / "boards.yaml").write_text(yaml.safe_dump({"groups": [group]}))
    code, text = promtool("check", "rules", tmp_path / "boards.yaml")
    assert code == 0, text


@pytest.mark.parametrize("board", [*boards()], ids=lambda board: board["uid"])
def test_a_board_names_only_metrics_labels_and_values_that_the_code_exports(
    board: dict[str, Any],
) -> None:
    found = {text: [*faults(plain(text))] for text in expressions(board)}
    assert {text: wrong for text, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("board", [*boards()], ids=lambda board: board["uid"])
def test_a_board_declares_the_variables_that_it_uses_and_no_others(board: dict[str, Any]) -> None:
    declared = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)\b", json.dumps([board["panels"], board["annotations"]])))
    assert declared - {"datasource", "runbooks"} == used - {"datasource", "runbooks"}
    assert {"datasource", "namespace", "runbooks"} <= declared


def test_every_panel_says_what_it_means_in_which_unit_and_from_where_it_is_bad() -> None:
    for board, panel in every_panel():
        place = f"{board['uid']}: {panel['title']}"
        assert panel["description"].endswith("."), place
        assert panel["fieldConfig"]["defaults"]["unit"], place
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], place
        assert panel["datasource"]["uid"] == "${datasource}", place
    for board in boards():
        titles = [panel["title"] for panel in panels(board)]
        assert len(titles) == len(set(titles)), board["uid"]


def test_links_lead_to_boards_and_runbooks_that_are_there() -> None:
    urls = [link["url"] for _, panel in every_panel() for link in panel.get("links", ())]
    ours = {url.partition("?")[0].removeprefix("/d/") for url in urls if url.startswith("/d/")}
    books = {url.removeprefix("${runbooks}/") for url in urls if not url.startswith("/d/")}
    assert ours <= UIDS
    assert all((ROOT / "docs" / "runbooks" / book).is_file() for book in books)
    assert books == {f"{rule['alert']}.md" for rule in rules() if "alert" in rule}, (
        "each alert's runbook can be reached from a panel that shows its trouble"
    )


def test_every_metric_is_on_some_board() -> None:
    text = " ".join(text for board in boards() for text in expressions(board))
    assert [declared.name for declared in CATALOGUE if declared.name not in text] == []


def test_what_is_not_known_is_never_shown_as_0() -> None:
    found = [text for board in boards() for text in expressions(board) if "vector(" in text]
    assert found == []
