"""The page about events is the one that the types make."""

from __future__ import annotations

import re
from pathlib import Path

from shared.events.document import events_page, rows
from shared.events.model import KINDS, Hop, MailEvent, Tls

ROOT = Path(__file__).parents[3]


def test_the_committed_page_is_the_generated_one() -> None:
    committed = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    assert committed == events_page(), "run: make docs"


def test_every_kind_and_every_field_has_a_meaning() -> None:
    meanings = [
        *KINDS.values(),
        *(what for kind in (MailEvent, Hop, Tls) for *_, what in rows(kind)),
    ]
    assert all(meaning.endswith(".") for meaning in meanings)


def test_links_lead_to_files_that_are_there() -> None:
    links = re.findall(r"\]\(([\w/.-]+)", events_page())
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).is_file()] == []
