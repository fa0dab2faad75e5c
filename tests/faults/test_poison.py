"""Messages that nobody of ours wrote: rows 31 (attacks) and 32 (faults). Parked, service alive."""

from __future__ import annotations

import pickle

import msgspec
import pytest

from shared.broker.interface import Outgoing, ParkReason
from shared.broker.parking import QUEUE, REASON
from shared.broker.topology import ACCEPTED, DUE, lane_queue
from shared.messages.codec import encode
from shared.messages.model import (
    SCHEMA,
    AcceptedMail,
    Content,
    DeliveryJob,
    MailExchanger,
    Recipient,
)
from tests.support.rig import CONTENT, SENDER, Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

LANE = lane_queue("default", 0, "transactional")
MAIL = AcceptedMail(
    id="0" * 26,
    accepted_at=0.0,
    reverse_path=SENDER,
    recipients=(Recipient("poison@one.test"),),
    content=Content(len(CONTENT), memoryview(CONTENT)),
)


class Exploit:
    """Unpickling it would end the process."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        import os

        return os._exit, (66,)


def of_newer_schema() -> bytes:
    return encode(msgspec.structs.replace(MAIL, schema=SCHEMA + 1))


POISONS = {
    "a pickle": (pickle.dumps(Exploit()), ParkReason.UNDECODABLE),
    "broken MessagePack": (encode(MAIL)[:-10], ParkReason.UNDECODABLE),
    "an empty body": (b"", ParkReason.UNDECODABLE),
    "another message": (msgspec.msgpack.encode({"type": "invoice"}), ParkReason.UNDECODABLE),
    "wrong types": (
        msgspec.msgpack.encode({"type": "accepted", "id": 1}),
        ParkReason.UNDECODABLE,
    ),
    "deep nesting": (b"\x91" * 100_000, ParkReason.UNDECODABLE),
    "five megabytes of zeros": (bytes(5 << 20), ParkReason.UNDECODABLE),
    "a newer schema": (of_newer_schema(), ParkReason.UNKNOWN_SCHEMA),
}


@pytest.mark.parametrize("queue", [ACCEPTED, DUE, LANE])
async def test_poison_is_parked_with_its_reason_and_mail_flows_on(rig: Rig, queue: str) -> None:
    pids = [rig.pipeline.pid(name) for name in ("router", "delivery")]
    for number, (body, _) in enumerate(POISONS.values()):
        await rig.broker.publish(Outgoing(queue, body, f"poison-{number}"))
    await rig.insist([rig.address()])

    parked = await rig.parked(len(POISONS))
    await rig.wait_accounted()
    found = {(p.message_id, bytes(p.body), p.headers[REASON], p.headers[QUEUE]) for p in parked}
    assert found == {
        (f"poison-{number}", body, reason.value, queue)
        for number, (body, reason) in enumerate(POISONS.values())
    }
    assert [rig.pipeline.pid(name) for name in ("router", "delivery")] == pids
    assert rig.pipeline.running("router")
    assert rig.pipeline.running("delivery")


@pytest.mark.parametrize(
    "recipient", ["a@one.test>\r\nDATA", "a\x00@one.test", "a@one.test\r\nRCPT TO:<b@one.test"]
)
async def test_a_job_whose_address_holds_a_command_is_parked_and_sends_nothing(
    rig: Rig, recipient: str
) -> None:
    receiver = rig.receivers["one.test"]
    before = b"".join(receiver.raw)
    job = DeliveryJob(
        id="poison",
        mail_id=MAIL.id,
        accepted_at=0.0,
        reverse_path=SENDER,
        recipients=(Recipient(recipient),),
        content=MAIL.content,
        destination="one.test",
        exchangers=(MailExchanger(0, "127.0.0.1", receiver.port),),
        static=True,
    )
    await rig.broker.publish(Outgoing(LANE, encode(job), job.id))

    (parked,) = await rig.parked(1)
    assert parked.headers[REASON] == ParkReason.UNSAFE_CONTENT.value
    assert b"".join(receiver.raw) == before


async def test_a_job_with_a_bare_line_feed_is_parked_and_sends_nothing(rig: Rig) -> None:
    smuggled = CONTENT + b"\n.\nMAIL FROM:<smuggled@one.test>\r\n"
    receiver = rig.receivers["one.test"]
    mail = msgspec.structs.replace(MAIL, content=Content(len(smuggled), memoryview(smuggled)))
    await rig.broker.publish(Outgoing(ACCEPTED, encode(mail), "smuggling"))

    (parked,) = await rig.parked(1)
    assert parked.headers[REASON] == ParkReason.UNSAFE_CONTENT.value
    assert not any(b"smuggled@" in raw for raw in receiver.raw)
