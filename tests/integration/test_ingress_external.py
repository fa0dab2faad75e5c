"""AUTH EXTERNAL: a client's certificate says who it is (RFC 4422, A; RFC 4954)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from tests.support.ingress import RunningIngress, ingress_settings, running_ingress, write_users

USERS = [
    {"username": "al", "password": "pw", "certificates": ["Shop.test"], "tenant": "shop"},
    {"username": "bo", "password": "pw", "certificates": ["bo@b.test"]},
]


class Site:
    """An ingress that trusts an authority for clients, and clients of that and of another one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority, self.other = trustme.CA(), trustme.CA()
        self.server = trustme.CA()
        leaf = self.server.issue_cert("mta.test")
        leaf.private_key_pem.write_to_path(folder / "key")
        leaf.cert_chain_pems[0].write_to_path(folder / "crt")
        self.authority.cert_pem.write_to_path(folder / "clients")

    def context(self, *names: str, authority: trustme.CA | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.server.configure_trust(context)
        if names:
            (authority or self.authority).issue_cert(*names).configure_cert(context)
        return context


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
async def ingress(site: Site) -> AsyncIterator[RunningIngress]:
    names = {"certificate": "crt", "key": "key", "client_authority": "clients"}
    settings = ingress_settings(
        site.folder,
        {"address": "127.0.0.1", "port": 0, "auth": "required", "tls": "implicit"},
        tls={key: str(site.folder / name) for key, name in names.items()},
        credentials_file=str(write_users(site.folder, USERS)),
    )
    async with running_ingress(site.folder, settings) as running:
        yield running


async def said(ingress: RunningIngress, context: ssl.SSLContext, *lines: bytes) -> list[str]:
    """The last line of each reply."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", ingress.port, ssl=context, server_hostname="mta.test"
    )
    answers = []
    for line in (b"", b"EHLO x", *lines):
        if line:
            writer.write(line + b"\r\n")
        while True:
            answer = (await asyncio.wait_for(reader.readline(), 10)).decode().strip()
            if answer.startswith("250-AUTH"):
                answers.append(answer)
            if answer[3:4] != "-":
                break
        answers.append(answer)
    writer.close()
    return answers[1:]


AL, BO = (base64.b64encode(name) for name in (b"al", b"bo"))


async def test_a_certificate_logs_its_user_in(site: Site, ingress: RunningIngress) -> None:
    shop = site.context("shop.test")
    offered, _, logged_in, accepted = await said(
        ingress, shop, b"AUTH EXTERNAL =", b"MAIL FROM:<a@b.test>"
    )
    assert offered == "250-AUTH PLAIN LOGIN EXTERNAL"
    assert logged_in == "235 2.7.0 Authentication succeeded"
    assert accepted == "250 2.1.0 Ok"
    assert (await said(ingress, shop, b"AUTH EXTERNAL " + AL))[-1][:3] == "235"
    assert (await said(ingress, shop, b"AUTH EXTERNAL"))[-1] == "334"
    assert (await said(ingress, shop, b"AUTH EXTERNAL", AL))[-1][:3] == "235"
    assert (await said(ingress, site.context("bo@b.test"), b"AUTH EXTERNAL ="))[-1][:3] == "235"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"AUTH EXTERNAL " + BO, "535 5.7.8 Authentication credentials invalid"),
        (b"AUTH EXTERNAL *", "501 5.7.0 Authentication cancelled"),
        (b"AUTH EXTERNAL ???", "501 5.5.2 The response cannot be decoded"),
    ],
)
async def test_nobody_else_can_be_claimed(
    site: Site, ingress: RunningIngress, line: bytes, answer: str
) -> None:
    assert (await said(ingress, site.context("shop.test"), line))[-1] == answer


async def test_an_unknown_name_is_nobody(site: Site, ingress: RunningIngress) -> None:
    answers = await said(ingress, site.context("stranger.test"), b"AUTH EXTERNAL =")
    assert answers[-1] == "535 5.7.8 Authentication credentials invalid"


async def test_without_a_certificate_it_is_not_offered(site: Site, ingress: RunningIngress) -> None:
    offered, _, answer = await said(ingress, site.context(), b"AUTH EXTERNAL =")
    assert offered == "250-AUTH PLAIN LOGIN"
    assert answer == "504 5.5.4 Mechanism not recognized"


async def test_a_certificate_of_another_authority_ends_the_handshake(
    site: Site, ingress: RunningIngress
) -> None:
    stranger = site.context("shop.test", authority=site.other)
    answers = [""]
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        answers = await said(ingress, stranger, b"AUTH EXTERNAL =")
    assert set(answers) == {""}  # with TLS 1.3 a client learns of it only when it reads
