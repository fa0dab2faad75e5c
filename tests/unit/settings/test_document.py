from __future__ import annotations

from pathlib import Path

import pytest

from shared.settings.document import EXAMPLE, configuration_page, row, sections
from shared.settings.model import RouterSettings, Settings
from shared.settings.section import Section
from shared.settings.shaping import LimitOverride, SiteLimits

ROOT = Path(__file__).parents[3]

KEYS = [
    pytest.param(section, key, id=f"{path}.{key}".lstrip("."))
    for path, section in sections()
    for key in section.model_fields
]


def test_the_committed_page_is_the_generated_one() -> None:
    example = (ROOT / EXAMPLE).read_text(encoding="utf-8")
    committed = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

    assert committed == configuration_page(example), "run: make docs"


def test_the_readme_shows_the_example_configuration() -> None:
    example = (ROOT / EXAMPLE).read_text(encoding="utf-8")

    assert f"```yaml\n{example}```" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_every_key_has_a_meaning_and_a_type(section: type[Section], key: str) -> None:
    _, kind, default, _, meaning = row("x", key, section.model_fields[key])

    assert meaning
    assert kind
    assert default


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_every_number_but_a_port_has_a_unit(section: type[Section], key: str) -> None:
    _, kind, _, unit, _ = row("x", key, section.model_fields[key])

    assert bool(unit) == ("duration" in kind or ("number" in kind and "port" not in key))


def test_a_row_says_name_variable_type_default_unit_and_meaning() -> None:
    assert row("router", "prefetch", RouterSettings.model_fields["prefetch"]) == (
        "`router.prefetch`<br>`POSTROAD_ROUTER__PREFETCH`",
        "whole number, 1 to 10000",
        "`200`",
        "messages",
        "Messages the router may hold at a time.",
    )


def test_numbers_with_fractions_and_keys_that_may_be_left_out_have_their_types() -> None:
    kinds = [
        row("x", key, section.model_fields[key])[1]
        for section in (SiteLimits, LimitOverride)
        for key in ("messages_per_second", "connections")
    ]
    assert kinds == ["number, 0 to 1000000", "whole number, 1 to 10000"] * 2


def test_entries_of_a_list_and_optional_sections_are_walked_too() -> None:
    paths = [path for path, _ in sections()]

    assert paths[0] == ""
    assert {"ingress.listeners[]", "ingress.tls", "router.routes[]"} <= set(paths)
    assert len(paths) == len(set(paths))
    assert dict(sections())[""] is Settings
