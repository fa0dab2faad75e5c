"""Who tells a sender of success: the next hop where it can, else we."""

from __future__ import annotations

import asyncio
from pathlib import Path

from shared.broker.topology import ACCEPTED
from shared.messages.codec import decode
from shared.messages.model import AcceptedMail, DsnWishes, MailExchanger, Recipient
from tests.integration.test_delivery import rig
from tests.support.raw_peer import Conversation, RawPeer


async def test_success_is_told_by_who_can_and_by_us_where_nobody_else_can(tmp_path: Path) -> None:
    recipients = (Recipient("r@b.test", "SUCCESS"),)
    async with rig(tmp_path) as r:
        (message,) = await r.successors(r.job(recipients=recipients, dsn=DsnWishes(envid="QQ1")))
        assert message.queue == ACCEPTED
        dsn = decode(message.body)
        assert isinstance(dsn, AcceptedMail)
        assert b"Action: relayed" in bytes(dsn.content.inline)
        assert b"Original-Envelope-Id: QQ1" in bytes(dsn.content.inline)

    async def behave(peer: Conversation) -> None:
        await peer.greet(b"PIPELINING", b"DSN")
        lines.extend([await peer.line(), await peer.line()])
        await peer.until(b"DATA")
        await peer.say(b"250 ok\r\n250 ok\r\n354 go\r\n")
        await peer.until(b".\r\n")
        taken.set()
        await peer.say(b"250 2.0.0 queued\r\n")
        await peer.gone()

    taken = asyncio.Event()
    lines: list[bytes] = []
    async with rig(tmp_path) as r, RawPeer(behave) as peer:
        exchangers = (MailExchanger(0, "mx.b.test", peer.port),)
        await r.give(r.job(recipients=recipients, dsn=DsnWishes(), exchangers=exchangers))
        await asyncio.wait_for(taken.wait(), 5)
        await r.service.drain()
        assert lines[1] == b"RCPT TO:<r@b.test> NOTIFY=SUCCESS\r\n"
        assert len(r.broker.published) == 1
