"""From one mail exchanger to the next: before the final dot, never after it (faults 22 to 26)."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from services.delivery.hop import NextHop
from services.delivery.opening import Opener
from services.delivery.work import Walk
from services.demo.receiver import Receiver, Script, Stage
from shared.broker.topology import ACCEPTED, DUE, PARKED
from shared.dns.answers import AddressAnswer, Addresses, DnsTrouble
from shared.messages.codec import decode
from shared.messages.model import AcceptedMail, MailExchanger, Recipient
from shared.messages.outcome import Deferred, Failed
from shared.settings.model import DeliverySettings, Settings
from shared.smtp.replies import Reply
from tests.integration.test_delivery import LATER, NEVER, Loopback, Rig, retried, rig

CLOSING = Reply(421, "4.3.2", "Closing")


def both(better: Rig, worse: Receiver) -> tuple[MailExchanger, ...]:
    """Two mail exchangers, the rig's own first."""
    ports = enumerate((better.receiver.port, worse.port))
    return tuple(MailExchanger(preference, "mx.b.test", port) for preference, port in ports)


@pytest.mark.parametrize("hidden", [frozenset[str](), frozenset({"PIPELINING"})])
@pytest.mark.parametrize(
    "script",
    [
        Script(replies={Stage.BANNER: CLOSING}),
        Script(replies={Stage.EHLO: LATER}),
        Script(replies={Stage.MAIL: LATER}),
        Script(replies={Stage.MAIL: CLOSING}),
        Script(replies={Stage.RCPT: CLOSING}),
        Script(replies={Stage.DATA: CLOSING}),
        Script(replies={Stage.MAIL: b"999 what\r\n"}),
        Script(drop_at=frozenset({Stage.BANNER})),
        Script(drop_at=frozenset({Stage.EHLO})),
        Script(drop_at=frozenset({Stage.MAIL})),
        Script(drop_at=frozenset({Stage.RCPT})),
        Script(drop_at=frozenset({Stage.DATA})),
    ],
)
async def test_a_host_that_fails_before_the_dot_is_left_for_the_next(
    tmp_path: Path, script: Script, hidden: frozenset[str]
) -> None:
    script = Script(script.replies, drop_at=script.drop_at, hidden=hidden)
    async with rig(tmp_path, script) as r, Receiver() as worse:
        await r.give(r.job("a@b.test", "c@b.test", exchangers=both(r, worse)))
        (mail,) = await worse.wait_for(1)
        assert mail.recipients == ("a@b.test", "c@b.test")
        assert r.receiver.messages == []


async def test_a_host_that_does_not_listen_is_left_for_the_next(tmp_path: Path) -> None:
    async with rig(tmp_path) as r, Receiver() as worse:
        exchangers = both(r, worse)
        await r.receiver.close()
        await r.give(r.job(exchangers=exchangers))
        await worse.wait_for(1)


async def test_a_host_that_does_not_answer_is_left_for_the_next(tmp_path: Path) -> None:
    script = Script(delays={Stage.BANNER: 60.0})
    async with rig(tmp_path, script, timeouts={"greeting": "100ms"}) as r, Receiver() as worse:
        await r.give(r.job(exchangers=both(r, worse)))
        await worse.wait_for(1)


@pytest.mark.parametrize(
    "script",
    [
        Script(replies={Stage.DOT: CLOSING}),
        Script(replies={Stage.DOT: LATER}),
        Script(replies={Stage.DOT: b"what?\r\n"}),
        Script(endless=frozenset({Stage.DOT})),
        Script(drop_at=frozenset({Stage.DOT})),
    ],
)
async def test_after_the_dot_no_other_host_is_tried(tmp_path: Path, script: Script) -> None:
    async with rig(tmp_path, script) as r, Receiver() as worse:
        (later,) = await r.successors(r.job(exchangers=both(r, worse)))
        assert retried(later).attempt == 1
        assert worse.connections == 0


@pytest.mark.parametrize("stage", [Stage.RCPT, Stage.DATA])
async def test_a_transient_refusal_of_a_recipient_is_not_taken_elsewhere(
    tmp_path: Path, stage: Stage
) -> None:
    async with rig(tmp_path, Script(replies={stage: LATER})) as r, Receiver() as worse:
        (later,) = await r.successors(r.job(exchangers=both(r, worse)))
        assert retried(later).attempt == 1
        assert worse.connections == 0


@pytest.mark.parametrize("refusing", [Stage.BANNER, Stage.MAIL, Stage.RCPT, Stage.DOT])
async def test_a_refusal_of_a_worse_host_does_not_override_a_better_ones_trouble(
    tmp_path: Path, refusing: Stage
) -> None:
    async with (
        rig(tmp_path, Script(replies={Stage.MAIL: LATER})) as r,
        Receiver(Script(replies={refusing: NEVER})) as worse,
    ):
        (later,) = await r.successors(r.job(exchangers=both(r, worse)))
        assert later.queue == DUE
        assert worse.connections == 1


async def test_a_refusal_on_a_reused_connection_to_a_worse_host_is_no_last_word_either(
    tmp_path: Path,
) -> None:
    async with (
        rig(tmp_path, connections=1) as r,
        Receiver(Script(refused=frozenset({"no@"}))) as worse,
    ):
        exchangers = both(r, worse)
        await r.receiver.close()
        await r.give(r.job(exchangers=exchangers))
        await worse.wait_for(1)
        await r.give(r.job("no@b.test", id="second", exchangers=exchangers))
        assert (await r.broker.wait_published(3))[2].queue == DUE
        assert worse.connections == 1


async def test_a_refusal_of_an_equal_host_is_final(tmp_path: Path) -> None:
    async with (
        rig(tmp_path, Script(replies={Stage.MAIL: LATER})) as r,
        Receiver(Script(refused=frozenset({"r@"}))) as second,
    ):
        exchangers = tuple(
            MailExchanger(10, "mx.b.test", port) for port in (r.receiver.port, second.port)
        )
        (dsn,) = await r.successors(r.job(exchangers=exchangers))
        assert dsn.queue == ACCEPTED


async def test_what_one_host_decided_is_not_asked_of_the_next(tmp_path: Path) -> None:
    script = Script(recipients={"no@": NEVER}, replies={Stage.DATA: CLOSING})
    async with rig(tmp_path, script) as r, Receiver() as worse:
        job = r.job("a@b.test", "no@b.test", "c@b.test", exchangers=both(r, worse))
        (dsn,) = await r.successors(job)
        (mail,) = worse.messages
        assert mail.recipients == ("a@b.test", "c@b.test")
        notification = decode(dsn.body)
        assert isinstance(notification, AcceptedMail)
        text = bytes(notification.content.inline)
        assert b"no@b.test" in text
        assert b"a@b.test" not in text


async def test_when_every_host_fails_the_recipients_are_tried_again(tmp_path: Path) -> None:
    troubled = Script(replies={Stage.MAIL: LATER})
    async with rig(tmp_path, troubled) as r, Receiver(troubled) as worse:
        (later,) = await r.successors(r.job("a@b.test", "c@b.test", exchangers=both(r, worse)))
        assert retried(later).recipients == (Recipient("a@b.test"), Recipient("c@b.test"))
        assert (r.receiver.connections, worse.connections) == (1, 1)


async def test_a_host_that_failed_on_a_reused_connection_is_not_tried_again(
    tmp_path: Path,
) -> None:
    async with (
        rig(tmp_path, connections=1) as r,
        Receiver() as worse,
    ):
        exchangers = both(r, worse)
        await r.give(r.job(exchangers=exchangers))
        await r.receiver.wait_for(1)
        r.receiver.script = Script(replies={Stage.MAIL: LATER})
        await r.give(r.job(exchangers=exchangers))
        await worse.wait_for(1)
        assert r.receiver.connections == 1


class Unclear(Loopback):
    """Of one host the name service cannot tell where it is."""

    async def addresses(self, host: str) -> AddressAnswer:
        return DnsTrouble("SERVFAIL") if host == "unclear.test" else Addresses(("127.0.0.1",))


async def test_trouble_with_the_name_of_a_better_host_is_remembered_against_a_worse_one(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as r:
        exchangers = (
            MailExchanger(10, "unclear.test", 25),
            MailExchanger(20, "mx.b.test", r.receiver.port),
        )
        opener = Opener(Settings(), Unclear(), random.Random(1))
        walk = Walk(not_after=asyncio.get_running_loop().time() + 5)
        hop = await opener.open(r.job(exchangers=exchangers), walk)
        assert isinstance(hop, NextHop)
        hop.close()
        assert isinstance(hop.better_failure, Deferred)
        assert "SERVFAIL" in hop.better_failure.reply.text


async def test_a_message_larger_than_announced_is_not_even_offered(tmp_path: Path) -> None:
    async with rig(tmp_path, Script(size=10)) as r:
        (dsn,) = await r.successors(r.job())
        assert b"5.3.4" in dsn.body
        assert b"MAIL" not in r.receiver.raw[0]


@pytest.mark.parametrize("address", ["a@b.test>\r\nDATA", "a@b.test> SIZE=1", "a\x00@b.test"])
async def test_an_address_that_is_more_than_an_address_parks_the_job(
    tmp_path: Path, address: str
) -> None:
    async with rig(tmp_path) as r:
        (parked,) = await r.successors(r.job(address))
        assert parked.queue == PARKED
        assert r.receiver.connections == 0


async def test_draining_gives_back_a_job_whose_connection_is_still_opening(tmp_path: Path) -> None:
    async with rig(tmp_path, Script(delays={Stage.BANNER: 60.0})) as r:
        await r.give(r.job())
        await r.receiver.wait_for(lambda: r.receiver.connections == 1)
        await r.service.drain()
        assert len(r.broker.published) == 1
        await r.receiver.wait_for(lambda: r.receiver.open_connections == 0)


class Together(Loopback):
    """Answers nobody before all have asked."""

    def __init__(self, askers: int) -> None:
        self._all = asyncio.Barrier(askers)

    async def addresses(self, host: str) -> AddressAnswer:
        async with asyncio.timeout(5):
            await self._all.wait()
        return Addresses(("127.0.0.1",))


async def test_the_addresses_of_all_hosts_are_asked_for_at_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        exchangers = tuple(
            MailExchanger(10, f"mx{number}.test", r.receiver.port) for number in range(4)
        )
        opener = Opener(Settings(), Together(4), random.Random(1))
        walk = Walk(not_after=asyncio.get_running_loop().time() + 5)
        hop = await opener.open(r.job(exchangers=exchangers), walk)
        assert isinstance(hop, NextHop)
        hop.close()


async def test_a_host_that_has_our_own_name_would_loop_but_not_on_a_configured_route(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path, Script(replies={Stage.EHLO: b"250 MTA.example Hello\r\n"})) as r:
        settings = Settings(
            hostname="mta.example", delivery=DeliverySettings(allow_private_addresses=True)
        )
        opener = Opener(settings, Loopback(), random.Random(1))
        walk = Walk(not_after=asyncio.get_running_loop().time() + 5)
        failed = await opener.open(r.job(static=False), walk)
        assert isinstance(failed, Failed)
        assert (failed.reply.enhanced, failed.reason) == ("5.4.6", "routing")
        walk = Walk(not_after=asyncio.get_running_loop().time() + 5)
        hop = await opener.open(r.job(static=True), walk)
        assert isinstance(hop, NextHop)
        hop.close()
