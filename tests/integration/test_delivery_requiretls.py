"""Mail that requires TLS (RFC 8689), between delivery and receivers with certificates."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from services.demo.receiver import Receiver, Script, Stage
from shared.broker.topology import ACCEPTED, DUE
from shared.messages.codec import decode
from shared.messages.model import SECRET, AcceptedMail, DeliveryJob, MailExchanger
from shared.smtp.replies import Reply
from tests.integration.test_delivery import Rig, rig

Run = Callable[[Coroutine[Any, Any, None]], None]
PROMISES = Script(shown=("REQUIRETLS",))
SECRETLY = {"require_tls": True, "authentic": True, "schema": SECRET}


class Authority:
    """Who signs certificates; `file` is what `delivery.tls_authority` names."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.file = folder / "authority.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def server(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names).configure_cert(context)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def stranger(*names: str) -> ssl.SSLContext:
    """A certificate that nobody believes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(*names).configure_cert(context)
    return context


async def returned(r: Rig, job: DeliveryJob) -> bytes:
    """The notification that follows the job, as its only successor; it requires TLS as well."""
    (message,) = await r.successors(job)
    assert message.queue == ACCEPTED
    dsn = decode(message.body)
    assert isinstance(dsn, AcceptedMail)
    assert (dsn.reverse_path, dsn.require_tls, dsn.schema) == ("", True, SECRET)
    text = bytes(dsn.content.inline)
    assert b"Subject: x" in text
    assert b"body" not in text
    return text


def between(
    tmp_path: Path, script: Script, tls: ssl.SSLContext | None, it: Authority, **keys: Any
) -> AbstractAsyncContextManager[Rig]:
    """Delivery, which believes `it`, and a receiver."""
    return rig(tmp_path, script, tls=tls, tls_authority=it.file, **keys)


def never_said(receiver: Receiver) -> bool:
    """Whether no transaction was begun; a MAIL in clear text would be seen here."""
    return not any(b"MAIL FROM" in raw for raw in receiver.raw)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_verified_next_hop_that_promises_gets_the_mail_and_the_parameter(
    tmp_path: Path, authority: Authority, run: Run
) -> None:
    async def scenario() -> None:
        context = authority.server("mx.b.test")
        async with between(tmp_path, PROMISES, context, authority) as r:
            for number in (1, 2):
                await r.give(r.job(**SECRETLY))
                mail = (await r.receiver.wait_for(number))[-1]
                assert mail.tls
                assert "REQUIRETLS" in mail.mail_parameters
            await r.service.drain()
            assert r.receiver.connections == 1
            assert len(r.broker.published) == 2

    run(scenario())


BAD: dict[str, tuple[Script, Callable[[Authority], ssl.SSLContext | None], bytes]] = {
    "no TLS": (PROMISES, lambda _: None, b"5.7.10"),
    "TLS refused": (
        Script(shown=("REQUIRETLS",), replies={Stage.STARTTLS: Reply(502, "5.5.1", "No")}),
        lambda it: it.server("mx.b.test"),
        b"5.7.10",
    ),
    "nobody believes it": (PROMISES, lambda _: stranger("mx.b.test"), b"5.7.10"),
    "another name": (PROMISES, lambda it: it.server("mx.evil.test"), b"5.7.10"),
    "no REQUIRETLS": (Script(), lambda it: it.server("mx.b.test"), b"5.7.30"),
}


@pytest.mark.parametrize("case", BAD)
async def test_nobody_else_gets_it_and_the_sender_is_told(
    tmp_path: Path, authority: Authority, case: str
) -> None:
    script, context, status = BAD[case]
    async with between(tmp_path, script, context(authority), authority) as r:
        text = await returned(r, r.job(**SECRETLY))
        assert b"Action: failed\r\nStatus: " + status in text
        assert never_said(r.receiver)
        assert r.receiver.messages == []
        assert r.receiver.connections == 1


async def test_those_whom_the_system_believes_do_not_count_beside_the_configured(
    tmp_path: Path, authority: Authority
) -> None:
    context = authority.server("mx.b.test")
    async with between(tmp_path, PROMISES, context, Authority(tmp_path)) as r:
        assert b"Status: 5.7.10" in await returned(r, r.job(**SECRETLY))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
async def test_an_address_has_to_stand_in_the_certificate(
    tmp_path: Path, authority: Authority, address: str
) -> None:
    async with between(tmp_path, PROMISES, authority.server(address), authority) as r:
        job = r.job(exchangers=(MailExchanger(0, "127.0.0.1", r.receiver.port),), **SECRETLY)
        if address == "127.0.0.1":
            await r.give(job)
            assert (await r.receiver.wait_for(1))[0].tls
        else:
            assert b"Status: 5.7.10" in await returned(r, job)


async def test_exchangers_that_anybody_can_have_named_are_not_even_asked(
    tmp_path: Path, authority: Authority
) -> None:
    context = authority.server("mx.b.test")
    keys = {"allow_private_addresses": True}
    async with between(tmp_path, PROMISES, context, authority, **keys) as r:
        job = r.job(static=False, require_tls=True, schema=SECRET)
        assert b"Status: 5.7.10" in await returned(r, job)
        assert r.receiver.connections == 0


@pytest.mark.parametrize(
    "script",
    [
        Script(shown=("REQUIRETLS",), drop_at=frozenset({Stage.STARTTLS})),
        Script(shown=("REQUIRETLS",), replies={Stage.STARTTLS: Reply(454, "4.7.0", "Later")}),
        Script(shown=("REQUIRETLS",), after_starttls=b"250 x\r\n"),
        Script(shown=("REQUIRETLS",), replies={Stage.BANNER: Reply(421, "4.3.2", "Later")}),
    ],
    ids=["lost", "454", "injected", "421"],
)
async def test_what_may_pass_is_tried_again_and_never_in_clear_text(
    tmp_path: Path, authority: Authority, script: Script
) -> None:
    async with between(tmp_path, script, authority.server("mx.b.test"), authority) as r:
        (message,) = await r.successors(r.job(**SECRETLY))
        assert message.queue == DUE
        again = decode(message.body)
        assert isinstance(again, DeliveryJob)
        assert (again.require_tls, again.schema, again.attempt) == (True, SECRET, 1)
        assert never_said(r.receiver)


async def test_the_next_exchanger_is_tried_where_the_first_does_not_promise(
    tmp_path: Path, authority: Authority
) -> None:
    context = authority.server("mx.b.test")
    async with (
        between(tmp_path, Script(), context, authority) as r,
        Receiver(PROMISES, tls=context) as second,
    ):
        ports = (r.receiver.port, second.port)
        exchangers = tuple(
            MailExchanger(each, "mx.b.test", port) for each, port in enumerate(ports)
        )
        await r.give(r.job(exchangers=exchangers, **SECRETLY))
        (mail,) = await second.wait_for(1)
        assert "REQUIRETLS" in mail.mail_parameters
        assert r.receiver.raw[0].endswith(b"QUIT\r\n")
        assert never_said(r.receiver)


async def test_a_connection_of_other_mail_is_not_used_for_it_and_the_other_way_round(
    tmp_path: Path, authority: Authority
) -> None:
    context = authority.server("mx.b.test")
    async with between(tmp_path, PROMISES, context, authority, connections=5) as r:
        await r.give(r.job())
        await r.receiver.wait_for(1)
        await r.give(r.job(**SECRETLY))
        await r.receiver.wait_for(2)
        await r.give(r.job())
        plain, secret, after = await r.receiver.wait_for(3)
        assert (plain.connection, secret.connection, after.connection) == (1, 2, 1)
        assert ["REQUIRETLS" in mail.mail_parameters for mail in (plain, secret, after)] == [
            False,
            True,
            False,
        ]


async def test_a_session_of_one_kind_of_tls_is_not_resumed_in_the_other(
    tmp_path: Path, authority: Authority
) -> None:
    context = authority.server("mx.b.test")
    async with between(tmp_path, PROMISES, context, authority, idle_timeout="10ms") as r:
        for number, changes in enumerate((SECRETLY, {}, SECRETLY), 1):
            await r.give(r.job(**changes))
            mail = (await r.receiver.wait_for(number))[-1]
            assert mail.tls
            await r.receiver.wait_for(lambda: r.receiver.open_connections == 0)
        assert context.session_stats()["hits"] == 0


PEERS: dict[str, tuple[Script, Callable[[Authority], ssl.SSLContext | None], bool, bool]] = {
    "promises": (PROMISES, lambda it: it.server("mx.b.test"), True, True),
    "silent": (Script(), lambda it: it.server("mx.b.test"), True, False),
    "stranger": (PROMISES, lambda _: stranger("mx.b.test"), True, False),
    "clear": (PROMISES, lambda _: None, False, False),
}
"""Whether a notification goes under TLS, and with the parameter."""


@pytest.mark.parametrize("peer", PEERS)
async def test_a_notification_is_not_lost_where_nobody_promises(
    tmp_path: Path, authority: Authority, peer: str
) -> None:
    script, context, tls, promised = PEERS[peer]
    async with between(tmp_path, script, context(authority), authority) as r:
        await r.give(r.job(reverse_path="", **SECRETLY))
        (mail,) = await r.receiver.wait_for(1)
        assert mail.tls == tls
        assert ("REQUIRETLS" in mail.mail_parameters) == promised
        await r.service.drain()
        assert len(r.broker.published) == 1
