"""Mail that is to be delivered by a time (RFC 2852), between delivery and scripted receivers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from services.demo.receiver import Script
from shared.broker.topology import ACCEPTED
from shared.messages.codec import decode
from shared.messages.model import AcceptedMail, DeliverBy
from tests.integration.test_delivery import Rig, rig

PROMISES = Script(shown=("DELIVERBY 20",))


async def notice(r: Rig, by: DeliverBy) -> bytes:
    """The notification that follows a job with that deadline, as its only successor."""
    (message,) = await r.successors(r.job(deliver_by=by))
    assert message.queue == ACCEPTED
    dsn = decode(message.body)
    assert isinstance(dsn, AcceptedMail)
    return bytes(dsn.content.inline)


@pytest.mark.parametrize(
    ("script", "seconds", "status"),
    [(Script(), 600, b"5.3.3"), (PROMISES, 10, b"5.4.7"), (PROMISES, -1, b"5.4.7")],
)
async def test_what_must_come_back_in_time_goes_only_where_that_is_promised(
    tmp_path: Path, script: Script, seconds: int, status: bytes
) -> None:
    async with rig(tmp_path, script) as r:
        text = await notice(r, DeliverBy(time.time() + seconds, returns=True))
        assert b"Action: failed\r\nStatus: " + status in text
        assert b"Subject: x\r\n" in text
        assert r.receiver.messages == []
        assert r.receiver.connections == (seconds > 0)


@pytest.mark.parametrize("mode", ["R", "N"])
async def test_a_next_hop_that_promises_gets_the_time_that_is_left(
    tmp_path: Path, mode: str
) -> None:
    async with rig(tmp_path, PROMISES) as r:
        await r.give(r.job(deliver_by=DeliverBy(time.time() + 500, returns=mode == "R")))
        (mail,) = await r.receiver.wait_for(1)
        assert set(mail.mail_parameters) & {f"BY={left};{mode}" for left in range(400, 500)}
        await r.service.drain()
        assert len(r.broker.published) == 1


async def test_that_nobody_will_tell_of_delays_any_more_is_told(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        text = await notice(r, DeliverBy(time.time() + 500))
        assert b"Action: relayed\r\nStatus: 2." in text
        (mail,) = r.receiver.messages
        assert not any(parameter.startswith("BY=") for parameter in mail.mail_parameters)
