"""deploy/compose.yaml, played without Docker on the image that deploy/Dockerfile describes.

The play (`tests.support.playground`) is done once; the tests judge what it saw. It needs to be root
(or sudo without a password), RabbitMQ and Prometheus: skipped without, a failure under CI=true.
`POSTROAD_TEST_IMAGE_BASE` names a folder with a system to begin from (`make prove-image`); without,
it is the system of this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.support.compose import ROOT
from tests.support.namespace import ISOLATED, as_root, why_not
from tests.support.play import LARGE
from tests.support.promtool import tool

pytestmark = pytest.mark.slow

BASE = os.environ.get("POSTROAD_TEST_IMAGE_BASE", "/")
SERVICES = ("ingress", "router", "delivery")
READ_ONLY = "Read-only file system"
PATIENCE = 400.0


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the play saw."""
    if why := why_not():  # nothing that could be installed: also under CI=true
        pytest.skip(f"*** THE IMAGE IS NOT TESTED: {why} ***")
    tool("prometheus")
    folder = tmp_path_factory.mktemp("play") / "ground"
    play = [sys.executable, "-m", "tests.support.playground", BASE, str(folder)]
    done = subprocess.run(
        [*(as_root() or []), *ISOLATED, *play],
        check=False,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    found: dict[str, Any] = json.loads((folder / "seen.json").read_text("utf-8"))
    return found


def inside(seen: dict[str, Any], which: str) -> dict[str, Any]:
    code, text = seen[which]
    assert code == 0, text
    found: dict[str, Any] = json.loads(text)
    return found


def test_what_is_to_be_done_once_is_done(seen: dict[str, Any]) -> None:
    assert seen["certificate"] == [0, ""]
    assert seen["check_config"] == [0, "configuration ok\n"]


def test_mail_is_taken_on_every_port_and_arrives(seen: dict[str, Any]) -> None:
    assert [reply[:14] for reply in seen["replies"]] == ["250 2.0.0 Ok: "] * 3

    assert [paths for *paths, _ in seen["received"]] == [
        ["demo@example.com", ["you@example.org"]]
    ] * 3
    assert max(size for *_, size in seen["received"]) > LARGE


def test_what_became_of_a_mail_is_told(seen: dict[str, Any]) -> None:
    code, story = seen["story"]

    assert code == 0, story
    assert "delivered" in story
    assert "you@example.org" in story


def test_a_large_content_lies_in_the_store_until_it_is_delivered(seen: dict[str, Any]) -> None:
    assert seen["stored"].count("<Key>contents/") == 1
    assert seen["left"].count("<Key>") == 0


def test_the_broker_has_our_user_only_and_is_empty_at_the_end(seen: dict[str, Any]) -> None:
    assert seen["users"].split() == ["user", "tags", "postroad", "[administrator]"]
    waiting = [line.split() for line in seen["queues"].splitlines()[1:] if line]
    assert "postroad.lane.default.3.transactional" in dict(waiting)
    assert {name for name, count in waiting if count != "0"} <= {"postroad.plans"}


def test_health_checks_tell_who_is_well_and_who_is_absent(seen: dict[str, Any]) -> None:
    assert seen["absent"] == [1, "ingress: nobody listens on port 9101\n"]
    assert seen["health"] == {name: [0, f"{name}: ok\n"] for name in SERVICES}
    assert seen["image_health"] == [0, "ingress: ok\nrouter: ok\ndelivery: ok\n"]


def test_prometheus_reaches_everybody(seen: dict[str, Any]) -> None:
    jobs = [*(f"postroad-{name}" for name in SERVICES), "rabbitmq", "rabbitmq-queues"]

    assert seen["targets"] == dict.fromkeys(jobs, "up")


@pytest.mark.parametrize("which", ["inside", "alone_inside"])
def test_a_container_is_nobody_and_can_do_nothing(seen: dict[str, Any], which: str) -> None:
    found = inside(seen, which)

    assert found["ids"] == [10001, 10001]
    nothing = dict.fromkeys(("CapEff", "CapPrm", "CapBnd"), "0000000000000000")
    assert found["status"] == {**nothing, "NoNewPrivs": "1"}


def test_it_can_write_where_it_must_and_nowhere_else(seen: dict[str, Any]) -> None:
    put = inside(seen, "alone_inside")["put"]

    assert {folder for folder, why in put.items() if not why} == {"/tmp", "/var/lib/postroad"}
    assert {why for why in put.values() if why} == {READ_ONLY}
    assert inside(seen, "inside")["put"]["/var/lib/postroad"] == READ_ONLY


def test_nothing_in_it_installs_or_builds(seen: dict[str, Any]) -> None:
    found = inside(seen, "inside")

    assert (found["prefix"], found["pip"]) == ("/opt/postroad", False)
    # The system of this machine has what it has; a bare one must not have got anything.
    assert BASE == "/" or found["tools"] == []


def test_its_bytecode_was_written_when_it_was_built(seen: dict[str, Any]) -> None:
    assert inside(seen, "inside")["bytecode"] == [1], "by hash (PEP 552), in every module"


def test_its_hot_path_is_compiled(seen: dict[str, Any]) -> None:
    assert inside(seen, "inside")["compiled"] == [True, True, True]


def test_no_password_is_in_the_environment_or_in_a_log(seen: dict[str, Any]) -> None:
    assert not [name for name in inside(seen, "inside")["environment"] if "URL" in name]
    assert [name for name, log in seen["logs"].items() if "play-with-me" in log] == []


def test_one_container_alone_runs_it_all(seen: dict[str, Any]) -> None:
    assert [reply[:14] for reply in seen["alone"]] == ["250 2.0.0 Ok: "]


def test_everybody_stops_when_told_and_in_order(seen: dict[str, Any]) -> None:
    assert seen["exits"] == dict.fromkeys((*SERVICES, "prometheus", "events", "alone"), 0)
    for log in seen["logs"].values():
        events = [json.loads(line) for line in log.splitlines()]
        assert [one["event"] for one in events if one["level"] == "error"] == []
        assert "draining" in {one["event"] for one in events}
