"""One running postroad with receivers, a client and a look into its queues, for whole-way tests.

Domains `one.test`, `two.test` and `three.test` each have a receiver of their own; `sender.test`,
where DSNs go, has a fourth. All addresses are made by `address`, so that none comes twice.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from services.demo.receiver import Receiver
from services.demo.script import Received, Script
from shared.broker.connect import connect_broker
from shared.broker.interface import Broker, Delivery
from shared.broker.topology import GUARANTEED_EVENTS, PARKED
from shared.settings.load import load_settings
from tests.support.accounting import Account, Ledger, account
from tests.support.pipeline import SERVICES, Pipeline, eventually
from tests.support.smtp_client import MAIL_TROUBLE, Answer, SmtpClient

DOMAINS = ("one.test", "two.test", "three.test")
SENDER = "sender@sender.test"
CONTENT = b"From: <sender@sender.test>\r\nSubject: test\r\n\r\nHello.\r\n"


class Rig:
    """A pipeline and everything around it; `ledger` is renewed by `renew`."""

    def __init__(
        self, pipeline: Pipeline, receivers: Mapping[str, Receiver], broker: Broker
    ) -> None:
        self.pipeline = pipeline
        self.receivers = receivers
        self.broker = broker
        self.ledger = Ledger()
        self._numbers = itertools.count(1)
        self._starts = dict.fromkeys(receivers, 0)

    async def renew(self) -> None:
        """Forget what was sent and received; every service runs, every receiver behaves."""
        for name in SERVICES:
            if not self.pipeline.running(name):
                await self.pipeline.restart(name)
        self.ledger = Ledger()
        for domain, receiver in self.receivers.items():
            receiver.script = Script()
            self._starts[domain] = len(receiver.messages)

    def script(self, script: Script) -> None:
        """Let the receivers of `DOMAINS` behave so."""
        for domain in DOMAINS:
            self.receivers[domain].script = script

    def address(self, domain: str = "one.test", local_part: str = "user") -> str:
        """An address that was never used before."""
        return f"{local_part}.{next(self._numbers)}@{domain}"

    def received(self, *domains: str) -> list[Received]:
        """What came since `renew`, at these domains or at all."""
        names = domains or tuple(self.receivers)
        return [m for name in names for m in self.receivers[name].messages[self._starts[name] :]]

    async def send(
        self, recipients: Sequence[str], content: bytes = CONTENT, reverse_path: str = SENDER
    ) -> Answer:
        """One transaction on a new connection, in the ledger. Raises what the client sees."""
        async with SmtpClient(self.pipeline.smtp_port) as client:
            self.ledger.tried(recipients)
            answer = await client.send(reverse_path, recipients, content)
            if answer.code == 250:
                self.ledger.took(recipients)
            return answer

    async def insist(self, recipients: Sequence[str], content: bytes = CONTENT) -> None:
        """Send like a good client: again and again until it is answered 250."""
        async with asyncio.timeout(60):
            while True:
                try:
                    if (await self.send(recipients, content)).code == 250:
                        return
                except MAIL_TROUBLE:
                    pass
                await asyncio.sleep(0.05)  # the client's pause before its next try

    async def load(self, mails: Iterable[Sequence[str]], sessions: int = 8) -> None:
        """Send a mail to each list of recipients, several at a time, each until accepted."""
        waiting = iter(mails)

        async def session() -> None:
            for recipients in waiting:
                await self.insist(recipients)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(sessions):
                tasks.create_task(session())

    def account(self) -> Account:
        """The account of all that was sent since `renew`."""
        return account(self.ledger, self.received())

    async def wait_accounted(self, timeout: float = 60.0) -> Account:
        """The account once every accepted recipient is delivered or notified and all is quiet."""

        async def done() -> bool:
            return not self.account().lost

        await eventually(done, f"all accounted for, missing {self.account().lost}", timeout)
        await self.wait_quiet()
        return self.account()

    async def wait_quiet(self, timeout: float = 30.0) -> None:
        """Return once nothing is queued but what others take, and no service holds anything."""
        in_a_row = 0

        async def quiet() -> bool:
            nonlocal in_a_row
            in_a_row = in_a_row + 1 if await self._is_quiet() else 0
            return in_a_row >= 2

        await eventually(quiet, "all queues empty and nothing in flight", timeout)

    async def _is_quiet(self) -> bool:
        depths = await self.broker.depths()
        ends = (PARKED, GUARANTEED_EVENTS)
        if any(depth for queue, depth in depths.items() if queue not in ends):
            return False
        names = [name for name in ("router", *self.pipeline.workers) if self.pipeline.running(name)]
        held = [(await self.pipeline.metrics(name))["postroad_in_flight_jobs"] for name in names]
        return not any(held)

    async def parked(self, count: int, timeout: float = 20.0) -> list[Delivery]:
        """Take `count` messages out of the parking queue."""
        return await self.take(PARKED, count, timeout)

    async def take(self, queue: str, count: int, timeout: float = 20.0) -> list[Delivery]:
        """Take `count` messages out of a queue."""
        taken: list[Delivery] = []
        enough = asyncio.Event()

        def take(delivery: Delivery) -> None:
            taken.append(delivery)
            delivery.ack()
            if len(taken) >= count:
                enough.set()

        consumer = self.broker.consume(queue, count, take)
        try:
            async with asyncio.timeout(timeout):
                await enough.wait()
        finally:
            await consumer.stop()
        return taken


@asynccontextmanager
async def running_rig(
    folder: Path,
    broker_url: str,
    settings: Mapping[str, Any] | None = None,
    domains: Sequence[str] = DOMAINS,
    receiver: type[Receiver] = Receiver,
) -> AsyncIterator[Rig]:
    """A rig with everything started; it is drained and must end with 0 when the test succeeds."""
    async with AsyncExitStack() as stack:
        names = (*domains, "sender.test")
        receivers = {name: await stack.enter_async_context(receiver()) for name in names}
        routes = {name: receiver.port for name, receiver in receivers.items()}
        pipeline = Pipeline(folder, broker_url, routes, settings)
        await stack.enter_async_context(pipeline)
        broker = connect_broker(load_settings(pipeline.config), "test")
        await broker.start()
        stack.push_async_callback(broker.close)
        await broker.wait_usable(20)
        yield Rig(pipeline, receivers, broker)
