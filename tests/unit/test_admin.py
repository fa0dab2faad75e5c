from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest

from shared import metrics
from shared.admin import AdminServer
from tests.support.http import request


class Readiness:
    """What the service says when it is asked, and how often it was."""

    def __init__(self) -> None:
        self.reason = ""
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        return self.reason


@pytest.fixture
def readiness() -> Readiness:
    return Readiness()


@pytest.fixture
async def port(readiness: Readiness) -> AsyncIterator[int]:
    server = AdminServer("127.0.0.1", 0, readiness)
    port = await server.start()
    yield port
    await server.close()


async def test_metrics_are_in_the_text_format_of_prometheus(port: int) -> None:
    metrics.sessions.set(3)

    status, headers, body = await request(port, "/metrics")

    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    assert b"\npostroad_ingress_sessions 3.0\n" in body


async def test_metrics_are_in_openmetrics_for_who_asks_for_it(port: int) -> None:
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*"

    _, headers, body = await request(port, "/metrics", accept=accept)

    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    assert b"\n# TYPE postroad_accepted_messages counter\n" in body


async def test_a_ready_service_is_ready(port: int) -> None:
    assert (await request(port, "/readyz"))[::2] == (200, b"ok\n")


async def test_a_service_that_is_not_ready_says_why(port: int, readiness: Readiness) -> None:
    readiness.reason = "broker blocked"

    assert (await request(port, "/readyz"))[::2] == (503, b"broker blocked\n")


async def test_liveness_never_asks_the_service(port: int, readiness: Readiness) -> None:
    readiness.reason = "broker not usable"

    assert (await request(port, "/livez"))[::2] == (200, b"ok\n")
    assert readiness.asked == 0


async def test_any_other_path_is_not_found(port: int) -> None:
    assert (await request(port, "/metrics/x"))[0] == 404


async def test_nothing_but_reading_is_allowed(port: int) -> None:
    assert (await request(port, "/livez", "POST"))[0] == 405
    assert (await request(port, "/livez", "HEAD"))[::2] == (200, b"")


async def test_the_answer_does_not_name_the_server(port: int) -> None:
    assert "server" not in (await request(port, "/livez"))[1]


async def test_a_closed_endpoint_gives_its_port_back() -> None:
    server = AdminServer("127.0.0.1", 0, Readiness())
    port = await server.start()
    await server.close()

    with pytest.raises(ConnectionRefusedError):
        await request(port, "/livez")


async def test_a_port_in_use_is_an_error_at_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = AdminServer("127.0.0.1", taken.getsockname()[1], Readiness())

        with pytest.raises(OSError, match="Address already in use"):
            await server.start()


async def test_an_endpoint_that_never_started_can_be_closed() -> None:
    await AdminServer("127.0.0.1", 0, Readiness()).close()
