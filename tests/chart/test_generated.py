"""What the chart has from elsewhere is the same there, and every value is told of and used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.chart.__main__ import BOARDS, RULES, main, written
from deploy.chart.comments import documented
from tests.support.helm import CHART, rendered

VALUES = (CHART / "values.yaml").read_text("utf-8")
TEMPLATES = "\n".join(
    path.read_text("utf-8") for path in sorted((CHART / "templates").rglob("*")) if path.is_file()
)
DOCUMENTED = documented(VALUES)


def test_the_committed_files_are_what_make_chart_writes(tmp_path: Path) -> None:
    main(tmp_path)
    for name, text in written().items():
        assert (tmp_path / name).read_text("utf-8") == text
        assert (CHART / name).read_text("utf-8") == text, "make chart"
    there = {path.relative_to(CHART).as_posix() for path in (CHART / "files").rglob("*.*")}
    assert there == {name for name in written() if name.startswith("files/")}


def test_a_copy_whose_original_is_gone_goes_too(tmp_path: Path) -> None:
    (tmp_path / "files" / "dashboards").mkdir(parents=True)
    old = tmp_path / "files" / "dashboards" / "old.json"
    old.write_text("{}")
    main(tmp_path)
    assert not old.exists()


def test_the_rules_of_the_cluster_are_those_that_are_tested() -> None:
    groups = rendered("full").one("PrometheusRule")["spec"]["groups"]
    ours = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    for group in ours:
        for rule in group["rules"]:
            if "alert" in rule:
                page = rule["annotations"]["runbook_url"]
                rule["annotations"]["runbook_url"] = f"https://wiki.example.net/{page}"
    assert groups == ours


def test_the_dashboards_of_the_cluster_are_those_that_are_tested() -> None:
    maps = [each for each in rendered("full").every("ConfigMap") if "-board-" in str(each)]
    shown = {name: json.loads(text) for each in maps for name, text in each["data"].items()}
    ours = {path.name: json.loads(path.read_text("utf-8")) for path in BOARDS.glob("*.json")}
    assert shown == ours
    for each in maps:
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert each["metadata"]["namespace"] == "grafana"
        assert len(json.dumps(each)) < 1 << 20


def leaves(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from leaves(each, f"{path}.{key}".lstrip("."))
    else:
        yield path


LEAVES = [*leaves(yaml.safe_load(VALUES))]


def test_every_value_is_documented() -> None:
    paths = [value.path for value in DOCUMENTED]
    assert len(paths) == len(set(paths)) > 100
    for leaf in LEAVES:
        assert any(f"{leaf}.".startswith(f"{path}.") for path in paths), leaf
    readme = (CHART / "README.md").read_text("utf-8")
    assert all(f"| `{path}` |" in readme for path in paths)


def test_a_value_without_a_comment_is_named() -> None:
    with pytest.raises(ValueError, match=r"^a\.c has no comment that begins with '# -- '$"):
        documented("a:\n  # -- Told.\n  b: 1\n  c: 2\n")


def test_comments_of_several_lines_are_one_and_others_are_left() -> None:
    (value,) = documented("# Not this.\n\n# -- One\n# and two.\na: {b: 1}\n")
    assert (value.path, value.default, value.meaning) == ("a", {"b": 1}, "One and two.")


@pytest.mark.parametrize("path", [v.path for v in DOCUMENTED if not v.has_documented_keys])
def test_every_value_is_used_by_a_template(path: str) -> None:
    key = path.rpartition(".")[2]
    assert re.search(rf'[.$]{key}\b|"{key}"', TEMPLATES), path


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_value_is_in_the_schema(leaf: str) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    for key in leaf.split("."):
        if "properties" not in schema:
            return  # free below
        assert schema["additionalProperties"] is False, leaf
        schema = schema["properties"][key]
