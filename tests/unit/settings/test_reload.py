"""New limits are taken up while a process runs; whatever else the file holds changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from shared.logs import configure_logging, get_logger
from shared.settings.changes import LONGEST_VALUE, changes
from shared.settings.load import load_settings
from shared.settings.model import LoggingSettings, Settings
from shared.settings.reload import MOST_LOGGED, SettingsWatch, differences
from shared.settings.shaping import LimitsSettings
from tests.support.log_state import log_state_kept

FEW = "limits: {default: {connections: 2}}\n"
MANY = "limits: {default: {connections: 30}}\n"
WRONG = "limits: {default: {connections: none}}\n"


class Watched:
    """A configuration file, a watch on it, and what it took up."""

    def __init__(self, path: Path, *, pause: float) -> None:
        self.path = path
        self.taken: asyncio.Queue[LimitsSettings] = asyncio.Queue()
        path.write_text(FEW)
        settings = load_settings(path)
        self.watch = SettingsWatch(path, settings, self.taken.put_nowait, pause=pause)

    async def connections(self) -> int:
        """Those of the limits that are taken up next."""
        async with asyncio.timeout(10):
            return (await self.taken.get()).default.connections


@pytest.fixture(autouse=True)
def _json_logs() -> Iterator[None]:
    with log_state_kept():
        configure_logging(LoggingSettings(format="json"))
        yield


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    one = Watched(tmp_path / "postroad.yaml", pause=0.005)
    one.watch.start()
    yield one
    await one.watch.stop()


@pytest.fixture
async def asked(tmp_path: Path) -> Watched:
    """Reads only when it is told to."""
    return Watched(tmp_path / "postroad.yaml", pause=3600)


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def reloads(result: str) -> float:
    return REGISTRY.get_sample_value("postroad_config_reloads_total", {"result": result}) or 0.0


async def test_limits_are_taken_up_when_the_file_is_written(watched: Watched) -> None:
    watched.path.write_text(MANY)
    assert await watched.connections() == 30
    watched.path.write_text(FEW)
    assert await watched.connections() == 2


async def test_limits_are_taken_up_when_the_file_is_replaced(watched: Watched) -> None:
    other = watched.path.with_suffix(".new")
    other.write_text(MANY)
    other.replace(watched.path)
    assert await watched.connections() == 30


async def test_limits_are_taken_up_when_a_link_on_the_way_is_turned(tmp_path: Path) -> None:
    # As Kubernetes updates a mounted ConfigMap: name -> ..data/name, ..data -> a new folder.
    for folder, text in (("one", FEW), ("two", MANY)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "postroad.yaml").write_text(text)
        os.utime(tmp_path / folder / "postroad.yaml", (1, 1))
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "postroad.yaml").symlink_to("..data/postroad.yaml")
    taken: asyncio.Queue[LimitsSettings] = asyncio.Queue()
    path = tmp_path / "postroad.yaml"
    watch = SettingsWatch(path, load_settings(path), taken.put_nowait, pause=0.005)
    watch.start()
    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").replace(tmp_path / "..data")
    async with asyncio.timeout(10):
        assert (await taken.get()).default.connections == 30
    await watch.stop()


async def test_what_changed_before_the_watch_began_is_taken_up_too(tmp_path: Path) -> None:
    one = Watched(tmp_path / "postroad.yaml", pause=0.005)
    one.path.write_text(MANY)
    one.watch.start()
    assert await one.connections() == 30
    await one.watch.stop()


async def test_a_look_that_is_asked_for_does_not_wait(asked: Watched) -> None:
    asked.watch.start()
    asked.path.write_text(MANY)
    asked.watch.look_now()
    assert await asked.connections() == 30
    await asked.watch.stop()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (WRONG, "limits.default.connections: must be a whole number"),
        ("limits: [", "postroad.yaml, line 1: "),
        (
            "limits: {overrides: [{match: {providers: [x]}}]}",
            "limits.overrides.0.match.providers: ",
        ),
        ("lanes: [{name: a}]", "lanes: a: "),
        (None, "postroad.yaml: No such file or directory"),
    ],
)
async def test_a_bad_file_is_one_line_and_the_limits_stay(
    asked: Watched, capfd: pytest.CaptureFixture[str], text: str | None, line: str
) -> None:
    before = reloads("failed"), reloads("ok")
    asked.path.unlink()
    if text is not None:
        asked.path.write_text(text)
    await asked.watch.read()
    assert asked.taken.empty()
    (told,) = lines(capfd)
    assert told["level"] == "error"
    assert line in told["error"]
    assert (reloads("failed"), reloads("ok")) == (before[0] + 1, before[1])
    asked.path.write_text(MANY)
    await asked.watch.read()
    assert await asked.connections() == 30
    assert reloads("ok") == before[1] + 1


async def test_a_bad_file_is_told_of_once(
    watched: Watched, capfd: pytest.CaptureFixture[str]
) -> None:
    watched.path.write_text(WRONG)
    before = reloads("failed")
    async with asyncio.timeout(10):
        while reloads("failed") == before:
            await asyncio.sleep(0.001)
    watched.path.write_text(MANY)
    assert await watched.connections() == 30
    await watched.watch.stop()
    assert [told["level"] for told in lines(capfd)] == ["error", "info"]


async def test_what_changed_is_told(asked: Watched, capfd: pytest.CaptureFixture[str]) -> None:
    asked.path.write_text(
        "limits:\n"
        "  default: {connections: 3, messages_per_second: 1.5}\n"
        "  overrides: [{match: {domains: [slow.example]}, connections: 1}]\n"
    )
    await asked.watch.read()
    (told,) = lines(capfd)
    assert (told["event"], told["level"]) == ("limits changed", "info")
    assert told["default"] == {"connections": "2 -> 3", "messages_per_second": "0 -> 1.5"}
    assert told["added"] == [{"match": {"domains": ["slow.example"]}, "connections": 1}]
    assert "removed" not in told


async def test_a_file_that_says_the_same_changes_nothing(
    asked: Watched, capfd: pytest.CaptureFixture[str]
) -> None:
    before = reloads("ok")
    asked.path.write_text(f"# a comment\n{FEW}")
    await asked.watch.read()
    assert asked.taken.empty()
    assert lines(capfd) == []
    assert reloads("ok") == before


async def test_keys_that_need_a_restart_are_named_and_limits_still_taken_up(
    asked: Watched, capfd: pytest.CaptureFixture[str]
) -> None:
    asked.path.write_text(
        f"{MANY}lanes: [{{name: default, partitions: 2}}]\nhostname: other.test\n"
    )
    await asked.watch.read()
    assert await asked.connections() == 30
    warning, info = lines(capfd)
    assert warning["level"] == "warning"
    keys = warning["keys"]
    assert keys["hostname"].endswith(" -> other.test")
    assert all(key == "hostname" or key.startswith("lanes") for key in keys)
    assert any(what.endswith(" -> 2") for key, what in keys.items() if "partitions" in key)
    assert info["event"] == "limits changed"


class Taking:
    """A service that takes up one key."""

    live_keys = frozenset({"ingress.max_connections"})

    def __init__(self) -> None:
        self.taken: list[int] = []

    def take_up(self, settings: Settings) -> None:
        self.taken.append(settings.ingress.max_connections)


async def test_what_a_service_takes_up_is_told_once_and_needs_no_restart(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, live = tmp_path / "postroad.yaml", Taking()
    path.write_text(FEW)
    watch = SettingsWatch(path, load_settings(path), lambda _: None, live=live)
    path.write_text(f"{FEW}ingress: {{max_connections: 77, max_recipients: 200}}\n")
    for _ in range(2):
        await watch.read()
    assert live.taken == [77]
    told = [(line["event"], line["keys"]) for line in lines(capfd)]
    restart = ("configuration needs a restart", {"ingress.max_recipients": "1000 -> 200"})
    taken = ("configuration taken up", {"ingress.max_connections": "10000 -> 77"})
    assert told == [restart, taken, restart]


async def test_settings_of_the_logs_are_taken_up_and_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "postroad.yaml"
    path.write_text("logging: {format: json, level: warning}\n")
    settings = load_settings(path)
    configure_logging(settings.logging)
    watch = SettingsWatch(path, settings, lambda _: None, on_logging=configure_logging)
    get_logger().info("not seen")
    path.write_text("logging: {format: json, level: debug, sampling: {delivered: 100}}\n")
    for _ in range(2):
        await watch.read()
    get_logger().debug("seen")

    taken, seen = lines(capfd)
    assert taken["event"] == "configuration taken up"
    assert taken["keys"] == {
        "logging.level": "warning -> debug",
        "logging.sampling.delivered": "1 -> 100",
    }
    assert seen["event"] == "seen"


async def test_where_nobody_takes_up_the_logs_they_need_a_restart(
    asked: Watched, capfd: pytest.CaptureFixture[str]
) -> None:
    asked.path.write_text(f"{FEW}logging: {{level: debug}}\n")
    await asked.watch.read()
    (told,) = lines(capfd)
    assert told["keys"] == {"logging.level": "info -> debug"}
    assert told["event"] == "configuration needs a restart"


def test_changes_hide_passwords_and_name_each_key() -> None:
    old = Settings.model_validate({"broker": {"url": "amqp://user:old@host/"}})
    place = f"file:///{'p' * 150}"
    new = Settings.model_validate(
        {"broker": {"url": "amqp://user:new@host/"}, "content_store": {"url": place}}
    )
    found = changes(old, new)
    assert found["broker.url"] == "amqp://user:***@host/ -> amqp://user:***@host/"
    assert found["content_store.url"].endswith(f" -> {place[:LONGEST_VALUE]}...")


async def test_after_its_end_a_watch_says_nothing(watched: Watched) -> None:
    await watched.watch.stop()
    watched.path.write_text(MANY)
    watched.watch.look_now()
    for _ in range(5):
        await asyncio.sleep(0)
    assert watched.taken.empty()


def test_thousands_of_changed_overrides_are_a_line_of_bounded_length() -> None:
    many = [{"match": {"domains": [f"{n}.test"]}, "connections": 1} for n in range(1000)]
    new = LimitsSettings.model_validate({"overrides": many})
    told = differences(LimitsSettings(), new)["added"]
    assert len(told) == MOST_LOGGED + 1
    assert told[-1] == "and 980 more"
