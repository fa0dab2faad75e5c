"""What is told of mail on its way through three real processes, followed on both brokers."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
import termios
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from services.demo.script import NO_SUCH_MAILBOX, Greylist, Script, Stage
from services.events.errors import StoreError
from services.events.store import StoredEvents
from shared.events.codec import decode_event, lines_of
from shared.events.model import KINDS, MailEvent
from shared.messages.ids import job_id
from tests.support.pipeline import ROOT, eventually
from tests.support.rabbitmq import ForeignServer, RabbitNode
from tests.support.rig import CONTENT, SENDER, Rig, running_rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORDER = {kind: number for number, kind in enumerate(KINDS)}


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)]
)
def broker_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "embedded":
        return f"embedded://{tmp_path_factory.mktemp('broker')}"
    server: RabbitNode | ForeignServer = request.getfixturevalue("rabbitmq")
    return server.new_vhost()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_rig(
    broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Rig]:
    folder = tmp_path_factory.mktemp("rig")
    settings = {"events": {"store": {"path": str(folder / "events.sqlite3")}}}
    async with running_rig(folder, broker_url, settings) as rig:
        yield rig


@pytest_asyncio.fixture(loop_scope="module")
async def rig(module_rig: Rig) -> Rig:
    await module_rig.renew()
    return module_rig


class Followed:
    """What a follower heard."""

    def __init__(self) -> None:
        self.events: list[MailEvent] = []

    def __call__(self, body: bytes) -> None:
        self.events += map(decode_event, lines_of(body))

    def of(self, mail_id: str) -> list[MailEvent]:
        """Of one mail, by time."""
        those = [event for event in self.events if event.mail_id == mail_id]
        return sorted(those, key=lambda event: (event.at, ORDER[event.event]))

    async def until(self, mail_id: str, *kinds: str) -> list[MailEvent]:
        """All of one mail, once they are of these kinds."""

        async def there() -> bool:
            return [event.event for event in self.of(mail_id)] == list(kinds)

        await eventually(there, f"{kinds} of {mail_id}: {self.of(mail_id)}")
        return self.of(mail_id)


@asynccontextmanager
async def followed(rig: Rig) -> AsyncIterator[Followed]:
    """Follow all events; the services know of it."""
    heard = Followed()
    listener = rig.broker.events.follow(["#"], heard)

    async def told() -> bool:
        await rig.insist([rig.address()])
        kinds = {event.event for event in heard.events}
        return {"accepted", "routed", "delivered"} <= kinds

    await eventually(told, "all services tell what happens")
    await rig.wait_accounted()
    yield heard
    await listener.stop()


async def accepted(rig: Rig, recipients: Sequence[str], reverse_path: str = SENDER) -> str:
    """Send; the id of the mail."""
    answer = await rig.send(recipients, CONTENT, reverse_path)
    assert answer.code == 250
    return answer.text.rpartition(" ")[2]


async def test_a_mail_that_is_delivered_is_told_of_step_by_step(rig: Rig) -> None:
    recipient = rig.address()
    async with followed(rig) as heard:
        mail_id = await accepted(rig, [recipient])
        events = await heard.until(mail_id, "accepted", "routed", "attempted", "delivered")
    first, routed, attempted, delivered = events
    port = rig.receivers["one.test"].port
    assert (first.reverse_path, first.recipients, first.tenant) == (SENDER, (recipient,), "default")
    assert first.octets > len(CONTENT)
    assert (routed.lane, routed.site, routed.recipients) == (
        "default", f"127.0.0.1:{port}", (recipient,),
    )  # fmt: skip
    assert attempted.outcomes == {"delivered": 1}
    assert 0 < attempted.attempt_seconds < 20
    assert (delivered.recipients, delivered.attempt, delivered.class_) == (
        (recipient,), 1, "transactional",
    )  # fmt: skip
    assert delivered.reply.startswith("250 ")
    assert delivered.hop is not None
    assert (delivered.hop.address, delivered.hop.port) == ("127.0.0.1", port)
    assert len({routed.job_id, attempted.job_id, delivered.job_id}) == 1
    assert first.at <= routed.at <= delivered.at
    assert delivered.queue_seconds == pytest.approx(delivered.at - first.at)
    assert len({event.id for event in events}) == 4


async def test_a_deferral_then_a_delivery_are_told_with_the_reply_and_the_wait(rig: Rig) -> None:
    rig.script(Script(greylist=Greylist(tries=1)))
    async with followed(rig) as heard:
        rig.script(Script(greylist=Greylist(tries=1, prefix="grey")))
        mail_id = await accepted(rig, [rig.address(local_part="grey")])
        events = await heard.until(
            mail_id, "accepted", "routed", "attempted", "deferred",
            "routed", "attempted", "delivered",
        )  # fmt: skip
    deferred, last = events[3], events[-1]
    assert (deferred.attempt, deferred.reason, deferred.delay_seconds) == (1, "policy", 1.0)
    assert "4.7.1" in deferred.reply
    assert last.attempt == 2
    assert last.queue_seconds > 1


async def test_a_bounce_names_the_notification_which_has_its_own_story(rig: Rig) -> None:
    good, bad = rig.address(), rig.address(local_part="bad")
    async with followed(rig) as heard:
        rig.script(Script(recipients={bad: NO_SUCH_MAILBOX}))
        mail_id = await accepted(rig, [good, bad])
        events = await heard.until(
            mail_id, "accepted", "routed", "attempted", "delivered", "bounced"
        )
        *_, attempted, delivered, bounced = events
        assert attempted.outcomes == {"delivered": 1, "failed": 1}
        assert (delivered.recipients, delivered.notification) == ((good,), "")
        assert (bounced.recipients, bounced.reason) == ((bad,), "address")
        assert bounced.notification == job_id(bounced.job_id, "dsn", 0)
        story = await heard.until(bounced.notification, "routed", "attempted", "delivered")
    assert story[-1].recipients == (SENDER,)


async def test_a_notification_that_fails_is_told_to_be_parked(rig: Rig) -> None:
    async with followed(rig) as heard:
        rig.script(Script(replies={Stage.RCPT: NO_SUCH_MAILBOX}))
        mail_id = await accepted(rig, [rig.address()], reverse_path="")
        events = await heard.until(mail_id, "accepted", "routed", "attempted", "bounced", "parked")
    assert (events[-1].reason, events[-2].notification) == ("dsn_failed", "")
    await rig.parked(1)


async def cli(rig: Rig, *arguments: str) -> asyncio.subprocess.Process:
    """A command of postroad with the configuration of the rig."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli", *arguments, "--config", str(rig.pipeline.config)),
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "400"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def said(rig: Rig, *arguments: str, code: int = 0) -> tuple[bytes, bytes]:
    """What a command wrote, to both of its outputs, once it ended with this code."""
    process = await cli(rig, *arguments)
    output = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == code, output
    return output


async def test_the_command_follows_what_was_asked_for_until_it_is_interrupted(rig: Rig) -> None:
    process = await cli(rig, "events", "--follow", "--json", "--event", "delivered")
    assert process.stdout is not None
    line = asyncio.create_task(process.stdout.readline())

    async def shown() -> bool:
        await rig.insist([rig.address()])
        return line.done()

    await eventually(shown, "an event is shown")
    assert json.loads(line.result())["event"] == "delivered"
    process.send_signal(signal.SIGINT)
    output, trouble = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, trouble
    assert {json.loads(each)["event"] for each in output.splitlines()} <= {"delivered"}
    await rig.wait_accounted()


async def test_a_message_has_its_whole_story_in_the_store(rig: Rig) -> None:
    store = await cli(rig, "event-store")
    try:
        recipient, mail_id = await kept(rig)
        (text, _), (lines, _), (last, _), (nothing, trouble) = await asyncio.gather(
            said(rig, "message", mail_id),
            said(rig, "message", mail_id.lower(), "--json"),
            said(rig, "events", "--id", mail_id),
            said(rig, "message", "NOSUCH", code=1),
        )
    finally:
        store.terminate()
        await asyncio.wait_for(store.wait(), 20)
    assert store.returncode == 0
    kinds = ["accepted", "routed", "attempted", "delivered"]
    assert [json.loads(line)["event"] for line in lines.splitlines()] == kinds
    story = text.decode().splitlines()
    assert mail_id in story[0]
    assert [line.split()[3] for line in story[1:]] == kinds
    assert recipient in story[-1]
    assert last.decode().count(mail_id) == len(kinds)
    assert not nothing
    assert b"NOSUCH" in trouble


async def kept(rig: Rig) -> tuple[str, str]:
    """A recipient and the id of a mail of which everything is in the store."""
    found: list[tuple[str, str]] = []
    path = rig.pipeline.folder / "events.sqlite3"

    async def whole() -> bool:
        recipient = rig.address()
        mail_id = await accepted(rig, [recipient])
        await rig.wait_accounted()
        found[:] = [(recipient, mail_id)]
        with contextlib.suppress(StoreError), StoredEvents(path) as stored:
            return len(stored.story(mail_id)) == 4
        return False

    await eventually(whole, "the store has all of a mail")
    return found[0]


async def test_on_a_terminal_events_are_in_colour_until_control_c(rig: Rig) -> None:
    ours, theirs = os.openpty()
    attributes = termios.tcgetattr(theirs)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli", "events", "--follow"),
        *("--config", str(rig.pipeline.config)),
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: _own_terminal(theirs),
    )
    os.close(theirs)
    seen = b""
    os.set_blocking(ours, False)

    async def coloured() -> bool:
        nonlocal seen
        await rig.insist([rig.address()])
        with contextlib.suppress(BlockingIOError):
            seen += os.read(ours, 65_536)
        return b"\x1b[32m  delivered" in seen

    await eventually(coloured, f"an event in green: {seen!r}")
    os.write(ours, attributes[6][termios.VINTR])
    assert await asyncio.wait_for(process.wait(), 20) == 0
    with contextlib.suppress(OSError):
        seen += os.read(ours, 65_536)
    os.close(ours)
    assert b"Traceback" not in seen
    await rig.wait_accounted()


def _own_terminal(descriptor: int) -> None:
    os.setsid()
    fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)


async def test_a_reader_that_goes_away_ends_the_command_well(rig: Rig) -> None:
    process = await cli(rig, "events", "--follow", "--json")
    assert process.stdout is not None
    process.stdout._transport.close()  # type: ignore[attr-defined]

    async def ended() -> bool:
        await rig.insist([rig.address()])
        return process.returncode is not None

    await eventually(ended, "the command ends")
    assert process.returncode == 0
    assert process.stderr is not None
    assert await process.stderr.read() == b""
    await rig.wait_accounted()
