"""docs/kubernetes.md shows values that render, and names values that there are."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from deploy.chart.comments import documented
from tests.support.helm import CHART, laid_over, render, rendered

PAGE = (CHART.parents[1] / "docs" / "kubernetes.md").read_text("utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_values_that_the_page_shows_render(number: int) -> None:
    shown: dict[str, Any] = yaml.safe_load(BLOCKS[number])
    assert render(laid_over(rendered("minimal").values, shown)).objects


def test_the_page_names_values_that_there_are() -> None:
    known = {value.path for value in documented((CHART / "values.yaml").read_text("utf-8"))}
    sections = {path.partition(".")[0] for path in known}
    named = {
        name
        for name in re.findall(r"`([a-zA-Z0-9]+(?:\.[a-zA-Z0-9]+)+)[`:]", PAGE)
        if name.partition(".")[0] in sections - {"config"}
    }
    pods = {path.removeprefix("pods.") for path in known if path.startswith("pods.")}
    missing = {
        name
        for name in named
        if not any(path == name or path.startswith(f"{name}.") for path in known)
        and name.partition(".")[2] not in pods
    }
    assert len(named) > 10
    assert missing == set()


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#:]+)\)", PAGE) if "//" not in link]
    assert len(links) > 1
    assert [link for link in links if not (CHART.parents[1] / "docs" / link).exists()] == []
    headings = {
        re.sub(r"[^a-z0-9 ]", "", h.lower()).replace(" ", "-")
        for h in re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    }
    assert set(re.findall(r"\(#([a-z0-9-]+)\)", PAGE)) <= headings
