"""The rendered Deployments, run as processes on RabbitMQ with their probes polled.

Pods come in any order, are rolled under load, are scaled and lose their broker. Every accepted mail
arrives, and an orderly end of a pod repeats none.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.demo.receiver import Receiver
from services.demo.script import Greylist, Script
from shared.plan.limits import Limits
from tests.support.accounting import Account, Ledger
from tests.support.cluster import Cluster, Service, Workload
from tests.support.counting import CountingReceiver
from tests.support.dockerfile import configured, stages
from tests.support.helm import render
from tests.support.manifest import ENTRYPOINT
from tests.support.pipeline import ROOT, Metrics, eventually
from tests.support.rabbitmq import ForeignServer, RabbitNode
from tests.support.smtp_client import MAIL_TROUBLE, SmtpClient

pytestmark = [pytest.mark.rabbitmq, pytest.mark.slow]

COUNTED = [f"d{number}.test" for number in range(5)]
GREYLISTS = "greylists.test"
"""Refuses each recipient once, so that its mail goes round the ladder."""
DOMAINS = [*COUNTED, GREYLISTS]
LIMITS = Limits(connections=2)
PARTITIONS = 4
COMPONENTS = ("ingress", "router", "delivery-default")
CONTENT = b"From: <sender@sender.test>\r\nSubject: test\r\n\r\nHello.\r\n"


def values(routes: dict[str, int]) -> dict[str, Any]:
    """The chart as it is, but for quick probes, a receiver for each domain, and no TLS."""
    return {
        "hostname": "mta.example.net",
        "rabbitmq": {"external": {"existingSecret": "rabbitmq"}},
        "pods": {
            "minReadySeconds": 1,
            "probes": {
                "startup": {"periodSeconds": 1, "failureThreshold": 40, "timeoutSeconds": 2},
                "liveness": {"periodSeconds": 1, "failureThreshold": 6, "timeoutSeconds": 5},
                "readiness": {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 3},
            },
        },
        "ingress": {
            "preStopSleepSeconds": 1,
            "listeners": {
                "submission": {"enabled": False},
                "submissions": {"enabled": False},
                "smtp": {"enabled": True, "relayNetworks": ["127.0.0.0/8"]},
            },
        },
        "lanes": [{"name": "default", "partitions": PARTITIONS}],
        "config": {
            "router": {
                "routes": [
                    {"domains": [domain], "hosts": [f"127.0.0.1:{port}"]}
                    for domain, port in routes.items()
                ]
            },
            "delivery": {"heartbeat": "500ms", "retry_schedule": ["1s"]},
            "limits": {"default": {"connections": LIMITS.connections}},
        },
    }


class Installation:
    """A cluster, its Service, its receivers, and what was sent through it."""

    def __init__(
        self,
        cluster: Cluster,
        service: Service,
        counting: Sequence[CountingReceiver],
        greylisting: Receiver,
    ) -> None:
        self.cluster = cluster
        self.ledger = Ledger()
        self.service = service
        self._counting = counting
        self._greylisting = greylisting
        self._stopped = asyncio.Event()
        self._addresses = (f"u{n}@{DOMAINS[n % len(DOMAINS)]}" for n in itertools.count())

    def __getitem__(self, component: str) -> Workload:
        return self.cluster.workloads[f"mail-postroad-{component}"]

    @property
    def received(self) -> list[str]:
        """The recipients that got their mail, by all receivers."""
        retried = (to for message in self._greylisting.messages for to in message.recipients)
        return [*(to for one in self._counting for to in one.received), *retried]

    @property
    def violations(self) -> list[str]:
        """What exceeded the limits of a site."""
        return [found for one in self._counting for found in one.violations(LIMITS)]

    def account(self) -> Account:
        """What became of all that was sent."""
        delivered = Counter(self.received)
        unexpected = frozenset(delivered.keys() - self.ledger.tries.keys())
        return Account(self.ledger, delivered, Counter(), unexpected)

    async def accounted(self) -> Account:
        """The account once everything accepted has arrived."""

        async def done() -> bool:
            return not self.account().lost

        await eventually(done, f"all has arrived but {len(self.account().lost)}", 30)
        return self.account()

    async def more(self, count: int) -> None:
        """Return when so many more have arrived."""
        before = len(self.received)

        async def enough() -> bool:
            return len(self.received) >= before + count

        await eventually(enough, f"{count} more have arrived", 30)

    async def shared(self) -> None:
        """Return once each delivery pod serves a part of the lane."""
        pods = self["delivery-default"].pods

        async def done() -> bool:
            pages = [await pod.get("/metrics", pod.spec.ports["admin"]) for pod in pods]
            key = 'postroad_owned_partitions{lane="default"}'
            return all(Metrics.parse(page)[key] > 0 for _, page in pages)

        await eventually(done, f"{len(pods)} pods share the lane", 30)

    async def _insist(self, recipient: str) -> None:
        """Send one mail like a good client: until it is answered 250."""
        while True:
            try:
                async with SmtpClient(self.service.port) as client:
                    self.ledger.tried([recipient])
                    answer = await client.send("sender@sender.test", [recipient], CONTENT)
                    if answer.code == 250:
                        self.ledger.took([recipient])
                        return
            except MAIL_TROUBLE:
                pass
            await asyncio.sleep(0.05)  # the client's pause before its next try

    async def _session(self) -> None:
        while not self._stopped.is_set():
            await self._insist(next(self._addresses))
            while not self._stopped.is_set() and len(self.account().lost) > 200:
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def under_load(self) -> AsyncIterator[None]:
        """Mail to all domains for the length of the block."""
        self._stopped.clear()
        async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(self._session())
            try:
                yield
            finally:
                self._stopped.set()


@asynccontextmanager
async def installed(folder: Path, broker_url: str) -> AsyncIterator[Installation]:
    """Everything but the pods."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        counting = [await enter(CountingReceiver(delay=0.05)) for _ in COUNTED]
        greylisting = await enter(Receiver(Script(greylist=Greylist())))
        ports = [*(one.port for one in counting), greylisting.port]
        chart = await asyncio.to_thread(render, values(dict(zip(DOMAINS, ports, strict=True))))
        secrets = {"rabbitmq": {"url": broker_url}}
        cluster = await enter(Cluster(chart.objects, secrets, folder))
        service = await enter(Service(cluster.workloads["mail-postroad-ingress"], "smtp"))
        yield Installation(cluster, service, counting, greylisting)


def test_processes_are_what_the_image_runs() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text("utf-8")
    assert tuple(configured(stages(text)[-1]).entrypoint) == ENTRYPOINT


async def test_a_rollout_and_scaling_under_load_lose_and_repeat_nothing(
    tmp_path: Path, rabbitmq: RabbitNode | ForeignServer
) -> None:
    async with installed(tmp_path, rabbitmq.new_vhost()) as mail:
        await asyncio.gather(*(mail[component].scale(1) for component in COMPONENTS))
        async with mail.under_load():
            await mail.more(50)
            await mail["delivery-default"].scale(3)
            await mail.shared()
            await mail.more(100)
            await asyncio.gather(*(mail[component].roll() for component in COMPONENTS))
            await mail.shared()
            await mail.more(100)
            await mail["delivery-default"].scale(1)
            await mail.more(50)
        account = await mail.accounted()

    assert account.lost == account.unexpected == set()
    assert account.duplicates() == {}
    assert mail.violations == []
    assert mail.service.unserved == 0
    for component in COMPONENTS:
        assert set(mail[component].exit_codes) == {0}, "each was drained within its grace"
        assert len(mail[component].exit_codes) == (5 if component == "delivery-default" else 1)
    assert [pod.killed_by_probe for pod in mail.cluster.all_pods if pod.killed_by_probe] == []


async def test_pods_wait_for_the_broker_and_outlive_its_restart(
    tmp_path: Path, rabbitmq_node: RabbitNode
) -> None:
    url = rabbitmq_node.new_vhost()
    vhost = url.rpartition("/")[2]
    async with installed(tmp_path, url) as mail:
        async with away(rabbitmq_node):
            pods = [await mail[component].grow() for component in reversed(COMPONENTS)]
            await asyncio.gather(*(pod.wait_live() for pod in pods))
            await asyncio.gather(*(pod.asked_again("readiness", 2) for pod in pods))
            assert not any(pod.ready for pod in pods)
        await asyncio.gather(*(pod.wait_ready() for pod in pods))

        async with mail.under_load():
            await mail.more(30)
            async with away(rabbitmq_node):
                await asyncio.gather(*(pod.wait_not_ready() for pod in pods))
                await asyncio.gather(*(pod.asked_again("liveness", 2) for pod in pods))
            await asyncio.gather(*(pod.wait_ready() for pod in pods))
            await mail.more(30)
        with queues_told(rabbitmq_node, vhost):
            account = await mail.accounted()

        assert account.lost == account.unexpected == set()
        assert mail.violations == []
        assert [pod.killed_by_probe for pod in pods] == [[], [], []]
        assert [pod.exit_code for pod in pods] == [None] * 3, "none has to be restarted"


@contextmanager
def queues_told(node: RabbitNode, vhost: str) -> Iterator[None]:
    """What fails within the block says what the broker holds."""
    try:
        yield
    except AssertionError as error:
        columns = "name", "messages", "messages_ready", "messages_unacknowledged", "consumers"
        error.add_note(node.ctl("list_queues", "-p", vhost, *columns))
        raise


@asynccontextmanager
async def away(node: RabbitNode) -> AsyncIterator[None]:
    """Nobody reaches the broker within the block."""
    await asyncio.to_thread(node.ctl, "stop_app")
    try:
        yield
    finally:
        await asyncio.to_thread(node.ctl, "start_app")
