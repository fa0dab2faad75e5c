from __future__ import annotations

import asyncio
from random import Random

import pytest

from services.demo.client import Submission, submit_all
from services.demo.plan import Contents, Planned, plan_messages
from services.demo.receiver import Receiver, Script, Stage
from shared.smtp.replies import Reply

PLAN = plan_messages("run", 30, Random(3))
CONTENTS = Contents(Random(3), "now")


class Journal:
    """Notes what the client says."""

    def __init__(self) -> None:
        self.accepted: dict[str, str] = {}
        self.refused: list[str] = []
        self.changed = asyncio.Event()

    def submission(self, receiver: Receiver) -> Submission:
        return Submission(receiver.port, CONTENTS.build, self.accept, self.refuse, 0.0)

    def accept(self, planned: Planned, mail_id: str, at: float, latency: float) -> None:
        assert at > 0 <= latency
        self.accepted[planned.demo_id] = mail_id

    def refuse(self, planned: Planned, reply: str) -> None:
        self.refused.append(reply)


async def test_every_message_arrives_once_and_byte_for_byte() -> None:
    journal = Journal()
    script = Script(replies={Stage.DOT: Reply(250, "2.0.0", "Ok: queued as Q7")})
    async with Receiver(script) as receiver:
        async with asyncio.timeout(20):
            await submit_all(journal.submission(receiver), PLAN, sessions=4)
        assert {received.content for received in receiver.messages} == set(
            map(CONTENTS.build, PLAN)
        )
        assert len(receiver.messages) == len(PLAN)
        assert receiver.connections == 4
        assert {received.recipients for received in receiver.messages} == {
            planned.recipients for planned in PLAN
        }
    assert journal.accepted == dict.fromkeys((planned.demo_id for planned in PLAN), "Q7")


@pytest.mark.parametrize("stage", [Stage.BANNER, Stage.RCPT, Stage.DATA, Stage.DOT])
async def test_what_is_not_taken_now_is_tried_again(stage: Stage) -> None:
    journal = Journal()
    async with Receiver(Script(replies={stage: Reply(451, "4.3.0", "Later")})) as receiver:
        submitting = asyncio.create_task(submit_all(journal.submission(receiver), PLAN, sessions=1))
        await receiver.wait_for(lambda: receiver.connections == 2)
        receiver.script = Script()
        async with asyncio.timeout(20):
            await submitting
    assert set(journal.accepted) == {planned.demo_id for planned in PLAN}
    assert len(receiver.messages) == len(PLAN)


async def test_what_is_never_taken_is_given_up() -> None:
    journal = Journal()
    async with Receiver(Script(replies={Stage.MAIL: Reply(550, "5.7.1", "No")})) as receiver:
        async with asyncio.timeout(20):
            await submit_all(journal.submission(receiver), PLAN[:2], sessions=2)
    assert journal.refused == ["550 5.7.1 No"] * 2
    assert journal.accepted == {}


async def test_a_dropped_connection_is_opened_again() -> None:
    journal = Journal()
    async with Receiver(Script(drop_at=frozenset({Stage.DOT}))) as receiver:
        submitting = asyncio.create_task(submit_all(journal.submission(receiver), PLAN, sessions=2))
        await receiver.wait_for(lambda: len(receiver.unanswered) == 3)
        receiver.script = Script()
        async with asyncio.timeout(20):
            await submitting
    assert set(journal.accepted) == {planned.demo_id for planned in PLAN}
