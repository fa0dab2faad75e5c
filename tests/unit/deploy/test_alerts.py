"""The alerts: Prometheus takes them, each fires on its data and is silent on a healthy day."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.exported import ROOT, RULES, faults, rules, series
from tests.support.promtool import promtool

TESTS = RULES.parent / "tests"
ALERTS = [rule for rule in rules() if "alert" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})
SECTIONS = ("What it means for mail", "How to see it", "Likely causes, in order", "Commands")


def rule_tests(file: str) -> Iterator[dict[str, Any]]:
    for test in yaml.safe_load((TESTS / file).read_text("utf-8"))["tests"]:
        yield from test["alert_rule_test"]


def test_prometheus_takes_the_rules_and_the_example_configuration() -> None:
    assert promtool("check", "rules", RULES.name, cwd=RULES.parent)[0] == 0
    assert promtool("check", "config", "prometheus.yml", cwd=RULES.parent)[0] == 0


@pytest.mark.parametrize("file", sorted(path.name for path in TESTS.glob("*.yaml")))
def test_the_rules_pass_their_own_tests(file: str) -> None:
    code, text = promtool("test", "rules", file, cwd=TESTS)
    assert code == 0, text


def test_each_severity_of_each_alert_is_seen_to_fire_and_to_be_silent() -> None:
    wanted = {(rule["alert"], rule["labels"]["severity"]) for rule in ALERTS}
    fired = {
        (test["alertname"], alert["exp_labels"]["severity"])
        for test in rule_tests("firing.yaml")
        for alert in test["exp_alerts"]
    }
    assert fired == wanted
    assert {t["alertname"] for t in rule_tests("healthy.yaml") if not t.get("exp_alerts")} == {
        *NAMES
    }


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_names_only_what_the_code_exports(rule: dict[str, Any]) -> None:
    assert list(faults(rule["expr"])) == []


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    said = rule["annotations"]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(said) == {"summary", "description", "runbook_url"}
    assert "{{" in said["description"], "a description has values"
    assert said["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"


def test_there_is_a_runbook_for_each_alert_and_for_nothing_else() -> None:
    assert sorted(path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_has_its_four_sections_and_ends_in_commands(name: str) -> None:
    text = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text("utf-8")
    assert text.startswith(f"# {name}\n")
    assert tuple(re.findall(r"^## (.*)$", text, re.MULTILINE)) == SECTIONS
    assert text.endswith("```\n")
    assert not re.search(r"\]\((?!Postroad\w+\.md\))", text), "links lead to runbooks"


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_names_only_metrics_settings_and_runbooks_that_are_there(name: str) -> None:
    text = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text("utf-8")
    settings = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    exported = series()
    for metric in re.findall(r"\^(postroad_[a-z_]+)'", text):
        assert any(known.startswith(metric) for known in exported), metric
    for key in re.findall(
        r"`((?:ingress|delivery|router|content_store|admin|limits)\.[\w.]+)`", text
    ):
        assert f"`{key}`" in settings, key
    for link in re.findall(r"\((Postroad\w+)\.md\)", text):
        assert link in NAMES, link


def test_a_name_that_nobody_exports_is_found() -> None:
    assert list(faults("sum by (lane, colour) (rate(postroad_retries_total[5m]))")) == [
        "no metric in it has the label colour",
        "no metric in it has the label lane",
    ]
    assert list(faults('postroad_retries_total{reason="bored"} > on (step) postroad_retris')) == [
        "postroad_retries_total has no reason 'bored'",
        "postroad_retris is no metric",
    ]
    assert list(faults('postroad_retries_total{domain="a.example"}')) == [
        "postroad_retries_total has no label domain"
    ]
