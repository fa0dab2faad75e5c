"""Kubernetes takes every object of every values file, in each version that is supported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from tests.chart.kinds import schema_of
from tests.support.helm import (
    CHART,
    CORE,
    CUSTOM,
    NEWEST,
    Object,
    Rendered,
    RenderError,
    lint,
    render,
    rendered,
    values_files,
)
from tests.support.kubernetes import faults

MINORS = range(32, NEWEST + 1)
FILES = values_files()
LINT = YamlLintConfig("""
extends: default
rules:
  braces: {max-spaces-inside: 0}
  brackets: {max-spaces-inside: 0}
  comments: {min-spaces-from-content: 1}
  document-start: disable
  empty-lines: disable
  indentation: {indent-sequences: whatever}
  line-length: disable
  quoted-strings: disable
""")


def objects(found: Rendered) -> Iterator[Object]:
    yield from found.objects
    yield from found.tests


def complaints(text: str) -> list[str]:
    return [f"{problem.line}: {problem.desc}" for problem in linter.run(text, LINT)]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("minor", MINORS, ids=lambda minor: f"1.{minor}")
def test_kubernetes_takes_every_object(file: str, minor: int) -> None:
    core = [each for each in objects(rendered(file)) if each["apiVersion"] in CORE]
    assert len(core) >= 8
    wrong = {each["metadata"]["name"]: faults(each, f"1.{minor}") for each in core}
    assert {name: found for name, found in wrong.items() if found} == {}


@pytest.mark.parametrize("file", FILES)
def test_operators_take_every_object(file: str) -> None:
    for each in objects(rendered(file)):
        if each["apiVersion"] in CUSTOM:
            jsonschema.validate(each, schema_of(each["apiVersion"], each["kind"]))


def test_a_field_that_does_not_exist_is_found() -> None:
    deployment = json.loads(json.dumps(rendered("minimal").one("Deployment", "-router")))
    deployment["spec"]["replica"] = 2
    assert "'replica' was unexpected" in faults(deployment, f"1.{NEWEST}")[0]
    monitor = json.loads(json.dumps(rendered("full").one("PodMonitor")))
    monitor["spec"]["joblabel"] = "x"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(monitor, schema_of("monitoring.coreos.com/v1", "PodMonitor"))


@pytest.mark.parametrize("file", FILES)
def test_each_object_has_a_name_of_its_own_and_is_in_the_namespace(file: str) -> None:
    found = [each for each in objects(rendered(file)) if "-more" not in each["metadata"]["name"]]
    keys = [(each["apiVersion"], each["kind"], each["metadata"]["name"]) for each in found]
    assert len(keys) == len(set(keys))
    ours = rendered(file).values.get("namespaceOverride", "mail-ns")
    elsewhere = {"grafana", "monitoring"}
    for each in found:
        if not each["metadata"]["name"].endswith("-text"):
            assert each["metadata"]["namespace"] in {ours} | elsewhere, each["metadata"]


@pytest.mark.parametrize("file", FILES)
def test_what_is_rendered_is_tidy_yaml(file: str) -> None:
    assert complaints(rendered(file).manifest) == []


@pytest.mark.parametrize(
    "path",
    [CHART / "Chart.yaml", CHART / "values.yaml", *sorted((CHART / "ci").glob("*.yaml"))],
    ids=lambda path: path.name,
)
def test_what_people_write_is_tidy_yaml(path: Path) -> None:
    assert complaints(path.read_text("utf-8")) == []


def test_the_version_of_kubernetes_changes_nothing() -> None:
    values = rendered("full").values
    assert render(values, minor=30).manifest == rendered("full").manifest


def test_helm_has_nothing_to_complain_of() -> None:
    assert lint() == []


def test_an_older_kubernetes_is_refused() -> None:
    with pytest.raises(RenderError, match=r"kubeVersion: >=1\.30\.0-0 .*incompatible"):
        render(rendered("minimal").values, minor=29)


@pytest.mark.parametrize(
    ("file", "api", "who"),
    [
        ("cert-manager", "cert-manager.io/v1", "ingress.tls.certManager.enabled"),
        ("full", "monitoring.coreos.com/v1", "monitoring."),
        ("operator", "rabbitmq.com/v1beta1", "rabbitmq.mode operator"),
    ],
)
def test_an_operator_that_is_not_there_is_named(file: str, api: str, who: str) -> None:
    apis = {**CORE, **{name: kinds for name, kinds in CUSTOM.items() if name != api}}
    with pytest.raises(RenderError, match=f"{who}.*the cluster does not know {api}"):
        render(rendered(file).values, apis=apis)


def test_without_any_operator_the_least_is_enough() -> None:
    found = render(rendered("minimal").values, apis=CORE)
    assert found.manifest == rendered("minimal").manifest


def test_the_chart_says_what_it_is() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["apiVersion"] == "v2"
    assert chart["type"] == "application"
    assert {"icon", "sources", "home", "annotations", "maintainers"} <= set(chart)
    assert "dependencies" not in chart, "brokers are not ours to bundle"
