"""What ingress tells of a mail, and what it owes before it says 250."""

from __future__ import annotations

import asyncio

import pytest

from services.ingress.acceptance import Acceptance
from services.ingress.dialogue import Dialogue
from shared.broker.interface import Outgoing, Refused
from shared.broker.topology import ACCEPTED, GUARANTEED_EVENTS, entrance
from shared.events.codec import decode_event
from shared.events.emitter import Emitter
from shared.events.model import Tls
from shared.settings.telling import EventSettings, Publish
from shared.smtp.server_replies import TROUBLE
from tests.support.memory_broker import MemoryBroker
from tests.unit.ingress.test_acceptance import INLINE_MAX, NOW, Bench

LARGE = b"Subject: x\r\n\r\n" + b"x\r\n" * INLINE_MAX


class ChoosyBroker(MemoryBroker):
    """Refuses what is published to one queue."""

    def __init__(self, refused: str = "") -> None:
        super().__init__(entrance(events=True))
        self._refused = refused

    def publish(self, message: Outgoing) -> asyncio.Future[None]:
        if message.queue != self._refused:
            return super().publish(message)
        future = asyncio.get_running_loop().create_future()
        future.set_exception(Refused("full"))
        return future


def bench(events: EventSettings, broker: MemoryBroker) -> tuple[Bench, Emitter]:
    made = Bench()
    emitter = Emitter(events, broker.events)
    made.acceptance = Acceptance(
        broker, made.store, INLINE_MAX, lambda: NOW, lambda count: b"\1" * count, emitter=emitter
    )
    return made, emitter


def secured(dialogue: Dialogue) -> None:
    dialogue.tls = "TLSv1.3 TLS_AES_256_GCM_SHA384"


async def test_an_accepted_mail_is_told_with_its_envelope_and_the_session() -> None:
    broker = ChoosyBroker()
    made, emitter = bench(EventSettings(publish=Publish.ALWAYS), broker)
    reply = await made.accept(change=secured)
    await emitter.stop()
    (event,) = broker.events.events()
    assert event.mail_id == reply.text.rpartition(" ")[2]
    assert (event.event, event.at, event.tenant, event.class_) == (
        "accepted", NOW, "default", "transactional",
    )  # fmt: skip
    assert (event.reverse_path, event.recipients) == ("a@b.test", ("c@d.test",))
    assert event.tls == Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384")


async def test_a_mail_that_is_not_accepted_is_not_told_of() -> None:
    broker = ChoosyBroker(refused=ACCEPTED)
    made, emitter = bench(EventSettings(publish=Publish.ALWAYS), broker)
    assert await made.accept() is TROUBLE
    await emitter.stop()
    assert broker.events.events() == []


async def test_250_waits_for_the_event_that_is_owed() -> None:
    broker = ChoosyBroker()
    made, _ = bench(EventSettings(guaranteed=("default",)), broker)
    broker.stall()
    waiting = asyncio.create_task(made.accept())
    for _ in range(10):
        await asyncio.sleep(0)
    assert made.replies.empty()
    broker.resume()
    assert (await waiting).code == 250
    (message,) = broker.published_to(GUARANTEED_EVENTS)
    assert decode_event(message.body).event == "accepted"
    assert len(broker.published_to(ACCEPTED)) == 1


@pytest.mark.parametrize(
    ("refused", "kept"), [(GUARANTEED_EVENTS, True), (ACCEPTED, False)], ids=["event", "mail"]
)
async def test_a_content_goes_only_where_no_mail_can_name_it(refused: str, kept: bool) -> None:
    broker = ChoosyBroker(refused)
    made, _ = bench(EventSettings(guaranteed=("default",)), broker)
    assert await made.accept(LARGE) is TROUBLE
    for _ in range(10):
        await asyncio.sleep(0)
    assert bool(broker.published_to(ACCEPTED)) is kept
    assert bool(made.store.blobs) is kept
