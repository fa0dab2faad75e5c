"""Links to RabbitMQ that are cut, silent, encrypted, or closed at a bad time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from prometheus_client import REGISTRY

from shared.broker.amqp.broker import AmqpBroker
from shared.broker.interface import Outgoing, Unavailable
from shared.settings.model import BrokerSettings
from tests.conformance.harness import (
    PATIENCE,
    WORK,
    Inbox,
    publish,
    small_topology,
    until_depths,
)
from tests.support.rabbitmq import ForeignServer, RabbitNode
from tests.support.tcp_proxy import TcpProxy, tcp_proxy

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
def url(rabbitmq: RabbitNode | ForeignServer) -> str:
    return rabbitmq.new_vhost()


@pytest.fixture
async def proxy(url: str) -> AsyncIterator[TcpProxy]:
    async with tcp_proxy(urlsplit(url).port or 5672) as opened:
        yield opened


def through(proxy: TcpProxy, url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"guest:guest@127.0.0.1:{proxy.port}").geturl()


@contextlib.asynccontextmanager
async def opened(
    url: str, *, heartbeat: str = "15s", confirm_timeout: str = "30s"
) -> AsyncIterator[AmqpBroker]:
    settings = BrokerSettings.model_validate(
        {"url": url, "heartbeat": heartbeat, "confirm_timeout": confirm_timeout}
    )
    broker = AmqpBroker(settings, small_topology(), "links")
    await broker.start()
    try:
        await broker.wait_usable(PATIENCE)
        yield broker
    finally:
        await broker.close()


def reconnects() -> float:
    return REGISTRY.get_sample_value("postroad_broker_reconnects_total") or 0.0


async def test_a_silent_link_is_noticed_by_its_heartbeats(proxy: TcpProxy, url: str) -> None:
    before = reconnects()
    async with opened(through(proxy, url), heartbeat="1s") as broker:
        inbox = Inbox()
        broker.consume(WORK, 10, inbox)
        await publish(broker, "a")
        stale = await inbox.next()
        proxy.forwards_answers = proxy.forwards_requests = False
        unknown = broker.publish(Outgoing(WORK, b"", "unknown"))
        with pytest.raises(Unavailable):
            await asyncio.wait_for(unknown, PATIENCE)
        assert not broker.usable
        proxy.close_all()
        proxy.forwards_answers = proxy.forwards_requests = True
        await broker.wait_usable(PATIENCE)
        again = await inbox.next()
        assert (again.message_id, again.attempts) == ("a", 1)
        stale.ack()
        again.ack()
    assert reconnects() >= before + 2


async def test_a_confirm_that_does_not_come_replaces_the_connection(
    proxy: TcpProxy, url: str
) -> None:
    async with opened(through(proxy, url), confirm_timeout="300ms") as broker:
        connections = proxy.connections
        proxy.forwards_answers = False
        first, second = (broker.publish(Outgoing(WORK, b"", name)) for name in "ab")
        for future in (first, second):
            with pytest.raises(Unavailable):
                await asyncio.wait_for(future, PATIENCE)
        proxy.forwards_answers = True
        await broker.wait_usable(PATIENCE)
        assert proxy.connections > connections
        await publish(broker, "c")
    async with opened(url) as broker:
        # They were stored: the outcome was unknown to us, not to the broker.
        await until_depths(broker, work=3)


async def test_a_link_that_is_cut_fails_what_is_under_way_and_comes_back(
    proxy: TcpProxy, url: str
) -> None:
    async with opened(through(proxy, url)) as broker:
        inbox = Inbox(acknowledge=True)
        broker.consume(WORK, 50, inbox)
        await broker.wait_usable(PATIENCE)
        proxy.forwards_answers = False
        futures = [broker.publish(Outgoing(WORK, b"", f"{n}")) for n in range(100)]
        await asyncio.sleep(0)  # they are on their way
        proxy.close_all()
        results = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), PATIENCE)
        assert {type(result) for result in results} == {Unavailable}
        proxy.forwards_answers = True
        await broker.wait_usable(PATIENCE)
        await publish(broker, "after")
        while (await inbox.next()).message_id != "after":
            pass


def trust(authority: trustme.CA, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(folder / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))


async def test_amqps_is_used_with_the_name_checked(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    trust(authority, tmp_path, monkeypatch)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    parts = urlsplit(url)
    async with tcp_proxy(parts.port or 5672, context) as proxy:
        secure = parts._replace(scheme="amqps", netloc=f"guest:guest@127.0.0.1:{proxy.port}")
        async with opened(secure.geturl()) as broker:
            inbox = Inbox(acknowledge=True)
            broker.consume(WORK, 100, inbox)
            body = os.urandom(300_000)
            await asyncio.gather(*(broker.publish(Outgoing(WORK, body, f"{n}")) for n in range(30)))
            assert {delivery.body for delivery in await inbox.take(30)} == {body}
            assert (await broker.depths())[WORK] == 0


async def test_amqps_trusts_the_authority_of_the_configured_file_and_no_other(
    url: str, tmp_path: Path
) -> None:
    ours, other = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(tmp_path / "ours.pem")
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.issue_cert("127.0.0.1").configure_cert(context)
    parts = urlsplit(url)
    async with tcp_proxy(parts.port or 5672, context) as proxy:
        netloc = f"guest:guest@127.0.0.1:{proxy.port}"
        secure = parts._replace(scheme="amqps", netloc=netloc).geturl()
        settings = BrokerSettings(url=secure, ca_file=tmp_path / "ours.pem")
        broker = AmqpBroker(settings, small_topology(), "links")
        await broker.start()
        await broker.wait_usable(PATIENCE)
        await broker.close()
        settings = BrokerSettings(url=secure, ca_file=tmp_path / "other.pem")
        broker = AmqpBroker(settings, small_topology(), "links")
        await broker.start()
        with pytest.raises(Unavailable):
            await broker.wait_usable(0.5)
        await broker.close()


async def test_amqps_refuses_a_certificate_of_another_name(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    trust(authority, tmp_path, monkeypatch)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)
    parts = urlsplit(url)
    async with tcp_proxy(parts.port or 5672, context) as proxy:
        secure = parts._replace(scheme="amqps", netloc=f"guest:guest@127.0.0.1:{proxy.port}")
        broker = AmqpBroker(BrokerSettings(url=secure.geturl()), small_topology(), "links")
        await broker.start()
        with pytest.raises(Unavailable):
            await broker.wait_usable(0.5)
        with pytest.raises(Unavailable):
            await broker.depths()
        await broker.close()


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


async def test_closing_leaves_no_thread_and_no_descriptor(url: str) -> None:
    before = descriptors()
    async with opened(url) as broker:
        broker.consume(WORK, 10, Inbox())
        await publish(broker, "a")
    assert descriptors() <= before
