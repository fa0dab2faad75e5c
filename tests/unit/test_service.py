"""The life of a service process, run on the embedded broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared import metrics
from shared.broker.interface import Broker
from shared.service import run_service
from shared.settings.load import ConfigError
from shared.settings.model import Settings
from tests.support.http import request
from tests.support.log_state import log_state_kept

FOREVER = 3600.0


@pytest.fixture(autouse=True)
def _logging_of_the_test_run_stays() -> Iterator[None]:
    with log_state_kept():
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate(
        {"broker": {"url": f"embedded://{tmp_path}/broker"}, "shutdown_grace": "10s"}
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class Story:
    """A service that notes what happens to it and asks to be stopped once it is ready."""

    name = "story"

    def __init__(self, port: int) -> None:
        self.port = port
        self.broker: Broker | None = None
        self.notes: list[str] = []
        self.start_error: Exception | None = None
        self.drain_seconds = 0.0
        self.signal = signal.SIGTERM
        self.refusal = ""
        self._watcher: asyncio.Task[None] | None = None

    def __call__(self, settings: Settings, broker: Broker) -> Story:
        self.broker = broker
        return self

    async def start(self) -> None:
        self.notes.append("start")
        if self.start_error:
            raise self.start_error
        self._watcher = asyncio.create_task(self._watch())

    def ready(self) -> str:
        return self.refusal

    async def _watch(self) -> None:
        assert self.broker is not None
        await self.broker.wait_usable(10)
        await self._note_readiness()
        os.kill(os.getpid(), self.signal)

    async def _note_readiness(self) -> None:
        status, _, body = await request(self.port, "/readyz")
        self.notes.append(f"{status} {body.decode().strip()}")

    async def drain(self) -> None:
        assert self.broker is not None
        await self._note_readiness()
        self.notes.append("drain" if self.broker.usable else "drain without a broker")
        await asyncio.sleep(self.drain_seconds)
        self.notes.append("drained")


@pytest.fixture
def story() -> Story:
    return Story(free_port())


def run(story: Story, settings: Settings) -> int:
    return run_service("ingress", story, settings, story.port)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_while_the_broker_is_there_and_ends_with_zero(
    story: Story, settings: Settings, number: signal.Signals
) -> None:
    story.signal = number

    assert run(story, settings) == 0
    assert story.notes == ["start", "200 ok", "503 draining", "drain", "drained"]
    assert story.broker is not None
    assert not story.broker.usable


def test_readiness_is_the_service_s_own_answer_once_the_broker_is_usable(
    story: Story, settings: Settings
) -> None:
    story.refusal = "no listener"

    run(story, settings)

    assert story.notes[1] == "503 no listener"


def test_a_drain_beyond_the_grace_ends_with_one_and_still_leaves_the_broker(
    story: Story, settings: Settings
) -> None:
    story.drain_seconds = FOREVER

    assert run(story, settings.model_copy(update={"shutdown_grace": 50})) == 1
    assert story.notes[-1] == "drain"
    assert story.broker is not None
    assert not story.broker.usable


def test_a_service_that_cannot_start_leaves_nothing_behind(
    story: Story, settings: Settings
) -> None:
    story.start_error = ConfigError("ingress.listeners.0.port: 25: Permission denied")

    with pytest.raises(ConfigError, match=r"ingress\.listeners\.0\.port"):
        run(story, settings)

    assert story.broker is not None
    assert not story.broker.usable
    with socket.create_server(("127.0.0.1", story.port)):
        pass  # the admin port is free again


def test_an_admin_port_in_use_is_one_line_that_names_it(story: Story, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", story.port)), pytest.raises(ConfigError) as caught:
        run(story, settings)

    assert str(caught.value).startswith(f"admin.ingress_port: {story.port}: ")
    assert story.notes == []


def broker_usable() -> float:
    (metric,) = metrics.broker_usable.collect()
    return metric.samples[0].value


def test_the_metrics_say_whether_the_broker_is_usable(story: Story, settings: Settings) -> None:
    seen: list[float] = []
    story.refusal = ""
    ready = story.ready

    def note() -> str:
        seen.append(broker_usable())
        return ready()

    story.ready = note  # type: ignore[method-assign]
    run(story, settings)

    assert seen == [1.0]
    assert broker_usable() == 0.0


def lines_of(text: str) -> Callable[[str], dict[str, object]]:
    entries = [json.loads(line) for line in text.splitlines()]
    return lambda event: next(entry for entry in entries if entry["event"] == event)


def test_the_settings_are_logged_at_the_start(
    story: Story, settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    run(story, settings)

    line = lines_of(capfd.readouterr().err)
    assert line("configuration")["settings"] == {
        "broker": {"url": settings.broker.url},
        "shutdown_grace": "10s",
    }
    assert line("started")["admin_port"] == story.port
    assert line("draining")["service"] == "ingress"
