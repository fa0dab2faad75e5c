"""`make sbom`: the list of what postroad is made of is whole, and has nothing of the workshop."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from typing import Any

import pytest

from tests.support.compose import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    """Made anew if what goes into it has changed; the tool checks it against its schema."""
    made = subprocess.run(
        ["make", "--silent", "sbom"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    found: dict[str, Any] = json.loads((ROOT / "build" / "postroad.cdx.json").read_text("utf-8"))
    return found


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_it_is_cyclonedx_about_this_version(bill: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    about = bill["metadata"]["component"]

    assert bill["bomFormat"] == "CycloneDX"
    assert (about["name"], about["version"]) == (project["name"], project["version"])


def test_it_lists_what_the_image_installs_and_nothing_else(bill: dict[str, Any]) -> None:
    text = (ROOT / "deploy" / "requirements.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if "==" in line and "'win32'" not in line]
    wanted = {
        plain(name): version
        for name, version in (re.match(r"(\S+?)==([^\s;]+)", line).groups() for line in lines)  # type: ignore[union-attr]
    }

    assert {plain(one["name"]): one["version"] for one in bill["components"]} == wanted


def test_everything_has_a_licence_and_an_address(bill: dict[str, Any]) -> None:
    bare = [one["name"] for one in bill["components"] if not one.get("licenses")]

    assert bare == []
    assert all(one["purl"].startswith("pkg:pypi/") for one in bill["components"])


def test_it_says_what_needs_what(bill: dict[str, Any]) -> None:
    needs = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}

    assert len(needs[bill["metadata"]["component"]["bom-ref"]]) >= 19
