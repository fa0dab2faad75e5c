"""Fills queues as the services would, through the interface of the broker, before anything runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

from msgspec.structs import replace

from shared.broker.connect import connect_broker
from shared.broker.interface import Broker, Outgoing
from shared.broker.topology import ACCEPTED
from shared.content.interface import blob_name
from shared.content.store import open_store
from shared.messages.codec import encode
from shared.messages.ids import job_id, mail_id
from shared.messages.model import AcceptedMail, Content, DeliveryJob, MailExchanger, Recipient
from shared.plan.lanes import LanePlan
from shared.plan.limits import LimitTable
from shared.settings.load import load_settings
from shared.settings.model import Settings
from shared.settings.values import split_host_port

SENDER = "load@bench.example"
AT_A_TIME = 1000
"""Publishes that wait for their confirms together."""
BROKER_TIMEOUT = 60.0


def content(octets: int) -> bytes:
    """A message of exactly this many octets, in lines."""
    head = b"From: <load@bench.example>\r\nSubject: bench\r\n\r\n"
    lines = (b"x" * 70 + b"\r\n") * (octets // 72 + 1)
    return (head + lines)[: octets - 2] + b"\r\n"


def new_ids(start: int) -> Iterator[str]:
    """Mail ids that no run had before; `start` is milliseconds since the epoch."""
    number = 0
    while True:
        yield mail_id(start, number.to_bytes(10, "big"))
        number += 1


def mails(addresses: Iterable[str], octets: int, now: float) -> Iterator[AcceptedMail]:
    """A mail to each address, accepted `now`."""
    ids, octets_of_each = new_ids(int(now * 1000)), memoryview(content(octets))
    for address in addresses:
        inline = Content(octets, octets_of_each)
        yield AcceptedMail(next(ids), now, SENDER, (Recipient(address),), inline)


def job_of(mail: AcceptedMail, hosts: str) -> DeliveryJob:
    """What the router makes of a mail whose domain has a static route to `hosts`."""
    host, port = split_host_port(hosts, 25)
    return DeliveryJob(
        id=job_id(mail.id, hosts, 0),
        mail_id=mail.id,
        accepted_at=mail.accepted_at,
        reverse_path=mail.reverse_path,
        recipients=mail.recipients,
        content=mail.content,
        destination=hosts,
        exchangers=(MailExchanger(0, host, port),),
        static=True,
        site=hosts,
    )


@asynccontextmanager
async def broker_of(settings: Settings) -> AsyncIterator[Broker]:
    """The broker of a configuration, ready."""
    broker = connect_broker(settings, "bench")
    await broker.start()
    try:
        await broker.wait_usable(BROKER_TIMEOUT)
        yield broker
    finally:
        await broker.close()


async def publish_all(broker: Broker, messages: Iterable[Outgoing]) -> None:
    """Publish and wait until all are durable. Raises `PublishError`."""
    left = iter(messages)
    while some := list(islice(left, AT_A_TIME)):
        await asyncio.gather(*map(broker.publish, some))


async def accept(config: Path, addresses: Iterable[str], octets: int) -> None:
    """Mail for each address, as ingress would have accepted it."""
    async with broker_of(load_settings(config)) as broker:
        made = mails(addresses, octets, time.time())
        await publish_all(broker, (Outgoing(ACCEPTED, encode(mail), mail.id) for mail in made))


async def queue_jobs(config: Path, targets: Iterable[tuple[str, str]], octets: int) -> None:
    """A job for each pair of address and next hop, in the queue where the router would put it.

    Contents that are too large for a queue go to the content store, one each.
    """
    settings = load_settings(config)
    plan = LanePlan(settings.lanes, LimitTable(settings.limits))
    pairs = list(targets)
    made = mails((address for address, _ in pairs), octets, time.time())
    jobs = [job_of(mail, hosts) for mail, (_, hosts) in zip(made, pairs, strict=True)]
    if octets > settings.content_store.inline_max_bytes:
        jobs = await _stored(jobs, settings)
    async with broker_of(settings) as broker:
        await publish_all(
            broker, (Outgoing(plan.place(job).queue, encode(job), job.id) for job in jobs)
        )


async def _stored(jobs: list[DeliveryJob], settings: Settings) -> list[DeliveryJob]:
    store = open_store(settings.content_store)
    done = []
    for job in jobs:
        name = blob_name(job.mail_id)
        await store.put(name, bytes(job.content.inline))
        done.append(replace(job, content=Content(job.content.size, blob=name)))
    return done
