"""`postroad probe` believes counters only when they rise, and adds up those of all pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter

from services.probe.health import Endpoints
from services.probe.main import run_probe
from services.probe.submit import Submission
from shared.admin import AdminServer
from shared.settings.accepting import ListenerTls
from tests.support.ingress import running_ingress

ROUTED = "postroad_routed_jobs_total"


@asynccontextmanager
async def router(routed: int, why_not: str = "") -> AsyncIterator[str]:
    """The URL of an admin endpoint of a router that has done so much, and does no more."""
    registry = CollectorRegistry()
    Counter(ROUTED.removesuffix("_total"), "x", registry=registry).inc(routed)
    server = AdminServer("127.0.0.1", 0, lambda: why_not, registry)
    port = await server.start()
    try:
        yield f"http://localhost:{port}"
    finally:
        await server.close()


async def run(
    url: str, submission: Submission | None, seconds: float = 0.2
) -> tuple[int, Sequence[str]]:
    said: list[str] = []
    code = await asyncio.to_thread(run_probe, {"router": url}, submission, seconds, said.append)
    return code, said


async def test_mail_that_is_accepted_and_not_routed_is_named(tmp_path: Path) -> None:
    async with running_ingress(tmp_path) as ingress, router(5) as url:
        where = ("127.0.0.1", ingress.port, ListenerTls.NONE, "x.example")
        code, said = await run(url, Submission(*where, "a@x.example", "b@x.example"))
        (mail,) = ingress.accepted()
        assert said == [
            "router is ready",
            f"accepted, queued as {mail.id}",
            f"FAILED: nothing was routed: {ROUTED} is 5 as before",
        ]
        assert code == 1


async def test_why_a_service_is_not_ready_is_said() -> None:
    async with router(0, "broker blocked") as url:
        code, (line,) = await run(url, None)
        assert code == 1
        assert line.startswith("FAILED: router is not ready: ")
        assert "127.0.0.1: broker blocked" in line


async def test_a_name_without_an_address_is_said() -> None:
    code, said = await run("http://nowhere.invalid:9102", None)
    assert (code, said) == (
        1,
        ["FAILED: router is not ready: nowhere.invalid has no address"],
    )


async def test_a_counter_is_added_up_over_its_labels() -> None:
    registry = CollectorRegistry()
    counter = Counter("postroad_delivery_attempts", "x", ("outcome",), registry=registry)
    counter.labels("delivered").inc(2)
    counter.labels("failed").inc(3)
    server = AdminServer("127.0.0.1", 0, lambda: "", registry)
    port = await server.start()
    places = Endpoints("delivery", f"http://127.0.0.1:{port}")
    try:
        assert await asyncio.to_thread(places.total, "postroad_delivery_attempts_total") == 5
    finally:
        await server.close()
