"""`postroad health`, as a health check runs it: against services that are well, ill or absent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.health import Health, ask
from shared.admin import AdminServer
from shared.settings.load import ConfigError
from shared.settings.model import AdminSettings
from tests.support.pipeline import free_port
from tests.unit.cli.test_cli import Command, _alone, command  # noqa: F401


class Told:
    """A service's readiness, as a test wishes."""

    def __init__(self) -> None:
        self.why = ""

    def __call__(self) -> str:
        return self.why


def settings(**ports: int) -> AdminSettings:
    free = {f"{name}_port": free_port() for name in ("ingress", "router", "delivery")}
    return AdminSettings(**(free | {f"{name}_port": port for name, port in ports.items()}))


@contextlib.asynccontextmanager
async def serving(told: Told, address: str = "127.0.0.1") -> AsyncIterator[int]:
    server = AdminServer(address, 0, told, CollectorRegistry())
    port = await server.start()
    try:
        yield port
    finally:
        await server.close()


async def asked(admin: AdminSettings, *names: str, path: str = "/livez") -> list[Health]:
    return await asyncio.to_thread(ask, admin, names, path)


async def test_a_service_that_lives_is_well() -> None:
    async with serving(Told()) as port:
        assert await asked(settings(router=port), "router") == [Health("router", True, True, "ok")]


async def test_not_ready_is_told_with_the_reason() -> None:
    told = Told()
    told.why = "broker not usable"
    async with serving(told) as port:
        admin = settings(delivery=port)

        (live,) = await asked(admin, "delivery")
        (ready,) = await asked(admin, "delivery", path="/readyz")

    assert live.well
    assert (ready.well, ready.said) == (False, "broker not usable")


async def test_who_is_named_must_answer_and_who_is_not_need_not() -> None:
    async with serving(Told()) as port:
        admin = settings(ingress=port)

        assert [health.service for health in await asked(admin)] == ["ingress"]
        ingress, router = await asked(admin, "ingress", "router")

    assert (ingress.well, router.well, router.answered) == (True, False, False)
    assert router.said == f"nobody listens on port {admin.router_port}"


def test_who_has_the_port_and_says_nothing_is_there_and_ill() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        (found,) = ask(settings(router=deaf.getsockname()[1]), (), "/livez", timeout=0.1)

    assert (found.service, found.answered, found.well) == ("router", True, False)


async def test_who_listens_everywhere_is_asked_on_loopback() -> None:
    async with serving(Told(), "0.0.0.0") as port:
        admin = settings(ingress=port).model_copy(update={"address": "0.0.0.0"})

        assert (await asked(admin, "ingress"))[0].well


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("grafana", "grafana: not one of ingress, router, delivery"),
        ("router", "admin.router_port: 0 is any port: nobody knows whom to ask"),
    ],
)
def test_who_cannot_be_asked_is_named(name: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ask(settings(router=0), [name], "/livez")

    assert str(caught.value) == said


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "postroad.yaml"
    ports = ", ".join(f"{name}_port: {free_port()}" for name in ("ingress", "router", "delivery"))
    file.write_text(f"admin: {{{ports}}}")
    return file


def test_the_command_says_so_and_exits_with_1(command: Command, config: Path) -> None:  # noqa: F811
    assert command("health", "--config", config) == (1, "no service answers here\n", "")
    code, out, err = command("health", "router", "--ready", "--config", config)
    assert (code, err) == (1, "")
    assert out.startswith("router: nobody listens on port ")
