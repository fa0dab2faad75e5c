"""deploy/Dockerfile says what an image of ours has to say; what it makes, test_compose.py runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.compose import ROOT
from tests.support.dockerfile import Config, configured, instructions, run_lines, stages

DEPLOY = ROOT / "deploy"
TEXT = (DEPLOY / "Dockerfile").read_text("utf-8")
PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+)", re.MULTILINE)


def image() -> Config:
    return configured(stages(TEXT)[-1])


def hadolint(file: Path) -> str:
    tool = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [tool, "--no-color", file], check=False, capture_output=True, text=True, timeout=60
    )
    return done.stdout + done.stderr


def test_hadolint_has_nothing_to_say() -> None:
    assert hadolint(DEPLOY / "Dockerfile") == ""


def test_hadolint_would_say_it(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(TEXT.replace("USER 10001:10001", "USER root"))

    assert "DL3002" in hadolint(file)


def test_every_stage_begins_with_one_base_that_is_named_by_its_digest() -> None:
    first, *others = stages(TEXT)

    assert re.fullmatch(r"docker\.io/library/python:[\w.-]+@sha256:[0-9a-f]{64}", first.base)
    assert {stage.base for stage in others} == {first.name}
    assert image().labels["org.opencontainers.image.base.name"] == first.base.partition("@")[0]


def test_what_installs_stays_behind() -> None:
    last = "\n".join(run_lines(stages(TEXT)[-1].instructions))

    assert not re.search(r"\b(apt-get|pip install|curl|wget|gcc)\b", last)
    assert "/site-packages/pip*" in last


def test_a_container_is_nobody_and_stops_and_tells_how_it_is() -> None:
    found = image()

    assert found.user == "10001:10001"
    assert (found.stop_signal, found.healthcheck) == ("SIGTERM", ["postroad", "health"])
    assert (found.entrypoint, found.command) == (["postroad"], ["--help"])
    assert found.volumes == ["/var/lib/postroad"]
    assert found.environment["POSTROAD_CONFIG"] == "/etc/postroad/postroad.yaml"


def test_its_labels_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    prefix = "org.opencontainers.image."
    labels = {key.removeprefix(prefix): value for key, value in image().labels.items()}

    assert labels["title"] == project["name"]
    assert labels["description"] == project["description"]
    assert labels["licenses"] == project["license"]
    assert labels.keys() > {"version", "revision", "created", "source", "documentation", "vendor"}


def test_the_context_has_what_is_copied_and_nothing_else() -> None:
    ignored, *sent = [
        line
        for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if not line.startswith("#")
    ]
    copied = {
        source
        for one in instructions(TEXT)
        if one.keyword == "COPY" and "from" not in one.options
        for source in one.rest.split()[:-1]
    }

    assert ignored == "*"
    assert {line.removeprefix("!") for line in sent if line.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)


def pins(file: Path) -> dict[str, str]:
    found = PINNED.findall(file.read_text("utf-8"))
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def test_the_image_has_the_versions_that_are_tested() -> None:
    wanted, tested = pins(DEPLOY / "requirements.txt"), pins(ROOT / "constraints.txt")
    elsewhere = {"colorama", "tzdata"}
    """What only Windows needs."""

    differ = {
        name: (version, tested.get(name))
        for name, version in wanted.items()
        if tested.get(name) != version and name not in elsewhere
    }
    assert differ == {}, "run: make hashes"


def test_every_dependency_is_in_the_image_with_its_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [lines for name, lines in project["optional-dependencies"].items() if name != "dev"]
    lines = [line for lines in (project["dependencies"], *extras) for line in lines]
    named = [re.split(r"[\[<>=! ]", line)[0] for line in lines]
    wanted = pins(DEPLOY / "requirements.txt")
    blocks = re.split(r"\n(?=\S)", (DEPLOY / "requirements.txt").read_text("utf-8"))[1:]

    missing = [name for name in named if re.sub(r"[-_.]+", "-", name).lower() not in wanted]
    assert missing == [], "run: make hashes"
    assert len(blocks) == len(wanted)
    assert [block for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("script", ["build_image.sh", "hashes.sh", "prove_image.sh", "sbom.sh"])
def test_the_scripts_are_shell_and_may_be_run(script: str) -> None:
    path = ROOT / "scripts" / script
    shell = shutil.which("sh")
    assert shell

    assert path.stat().st_mode & 0o111
    assert subprocess.run([shell, "-n", path], check=False).returncode == 0
