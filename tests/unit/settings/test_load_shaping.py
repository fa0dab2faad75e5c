"""Lanes and limits that make no sense are one line that names them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.settings.load import ConfigError, load_settings


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("POSTROAD_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "postroad.yaml"


PROVIDERS = (
    "mine, google, microsoft, yahoo, apple, gmx, yandex, mailru, zoho, fastmail, proton, ionos, "
    "comcast, orange, amazon, proofpoint, mimecast, barracuda, cisco, other"
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "lanes: [{name: default}, {name: g, match: {providers: [mine, gogle]}}]",
            f"lanes.1.match.providers: 'gogle' is none of {PROVIDERS}",
        ),
        (
            "limits: {overrides: [{match: {providers: [other]}}, {match: {providers: [x]}}]}",
            f"limits.overrides.1.match.providers: 'x' is none of {PROVIDERS}",
        ),
        (
            "lanes: [{name: Big Lane, match: {tenants: [a]}}]",
            "lanes.0.name: 'Big Lane' is not a name: "
            "up to 40 lower case letters, digits, hyphens and underscores",
        ),
        (
            f"metrics: {{domains: [{', '.join(f'd{n}.test' for n in range(51))}]}}",
            "metrics.domains: Value should have at most 50 items after validation, not 51",
        ),
        (
            "metrics: {domains: ['*.example']}",
            "metrics.domains.0: '*.example' is not a domain: there are no wildcards here",
        ),
        ("lanes: [{name: a}]", "lanes: a: match is empty, which is for the lane `default` only"),
        (
            "lanes: [{name: default, match: {tenants: [a]}}]",
            "lanes: default: takes what no other lane takes, so it has no match",
        ),
        (
            "lanes: [{name: a, match: {tenants: [a]}}, {name: a, match: {tenants: [b]}}]",
            "lanes: two lanes have the same name",
        ),
        (
            "lanes: [{name: default, partitions: 4, spread: 5}]",
            "lanes.0: spread is 5, but there are 4 partitions",
        ),
        (
            "lanes: [{name: a, match: {domains: ['*.example']}}]",
            "lanes.0.match.domains.0: '*.example' is not a domain: there are no wildcards here",
        ),
        (
            "lanes: [{name: a, match: {classes: [urgent]}}]",
            "lanes.0.match.classes.0: Input should be 'transactional' or 'bulk'",
        ),
        (
            "limits: {overrides: [{match: {}, connections: 1}]}",
            "limits.overrides.0.match: is empty: for every site there is limits.default",
        ),
        (
            "limits: {default: {messages_per_second: .inf}}",
            "limits.default.messages_per_second: Input should be a finite number",
        ),
        (
            "limits: {default: {connections: 0}}",
            "limits.default.connections: Input should be greater than or equal to 1",
        ),
        ("router: {recipients_per_job: 5}", "router.recipients_per_job: unknown key"),
        ("router: {own_names: [a_b]}", "router.own_names.0: 'a_b' is not a host name"),
    ],
)
def test_lanes_and_limits_that_make_no_sense_are_one_line(file: Path, text: str, line: str) -> None:
    file.write_text(f"{text}\nproviders: [{{name: mine, mx: [mx.test]}}]")
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    assert str(caught.value) == line


def test_limits_in_a_variable_are_checked_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROAD_LIMITS__OVERRIDES", "[{match: {providers: [x]}, connections: 1}]")

    with pytest.raises(ConfigError) as caught:
        load_settings(None)

    line = str(caught.value)
    name = "limits.overrides.0.match.providers (POSTROAD_LIMITS__OVERRIDES)"
    assert line.startswith(f"{name}: 'x' is none of google, ")
    assert "\n" not in line


def test_a_variable_overrides_one_limit(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("limits: {default: {connections: 3, messages_per_second: 1.5}}")
    monkeypatch.setenv("POSTROAD_LIMITS__DEFAULT__CONNECTIONS", "7")
    monkeypatch.setenv("POSTROAD_LANES", "[{name: otp, match: {tenants: 'a,b'}}]")

    settings = load_settings(file)

    default = settings.limits.default
    assert (default.connections, default.messages_per_second) == (7, 1.5)
    assert [lane.name for lane in settings.lanes] == ["otp", "default"]
    assert settings.lanes[0].match.tenants == ("a", "b")
