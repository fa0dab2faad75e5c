"""What a connection leaves goes with it, and does not wait for the collector of cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.delivery.client import PipelinedProtocol
from services.delivery.line import Line
from services.delivery.work import Work
from services.ingress.server import SmtpServer
from tests.integration.test_delivery import rig
from tests.support.ingress import running_ingress
from tests.support.pipeline import eventually
from tests.support.smtp_client import SmtpClient


@contextmanager
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def left(*kinds: type) -> list[str]:
    return [type(found).__name__ for found in gc.get_objects() if isinstance(found, kinds)]


async def test_a_closed_connection_to_a_next_hop_leaves_nothing(tmp_path: Path) -> None:
    with without_collector():
        async with rig(tmp_path) as r:
            for number in range(3):
                await r.give(r.job(f"user.{number}@b.test"))
            await r.receiver.wait_for(3)
            assert left(Line)
            await r.service.drain()
            assert left(Line, PipelinedProtocol, Work) == []


async def test_a_session_that_is_over_leaves_nothing(tmp_path: Path) -> None:
    with without_collector():
        async with running_ingress(tmp_path) as ingress:
            for _ in range(3):
                async with SmtpClient(ingress.port) as client:
                    await client.send("a@b.test", ["c@d.test"], b"x\r\n")
                    assert left(SmtpServer)

            async def gone() -> bool:
                return not left(SmtpServer)

            await eventually(gone, "no session left")
