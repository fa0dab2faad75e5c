"""swaks, a client that we did not write, against a real ingress process on loopback."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
import pytest_asyncio
import trustme

from shared.broker.connect import connect_broker
from shared.broker.interface import Delivery
from shared.broker.topology import ACCEPTED
from shared.messages.codec import decode
from shared.messages.model import AcceptedMail
from shared.settings.load import load_settings
from tests.support.ingress import OPEN, write_users
from tests.support.pipeline import Pipeline, free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIMEOUT = 30
NO_RECIPIENT, MAIL_REFUSED, DATA_REFUSED, AUTH_REFUSED = 24, 23, 26, 28
"""Exit codes of swaks."""
USERS = [{"username": "al", "password": "pass word", "tenant": "t"}]
LOGIN = ("--auth-user", "al", "--auth-password", "pass word")
KINDS: dict[str, dict[str, object]] = {
    "open": {},
    "starttls": {"tls": "starttls", "auth": "required", "relay_networks": []},
    "implicit": {"tls": "implicit", "auth": "required", "relay_networks": []},
    "proxied": {"proxy_networks": ["127.0.0.0/8"], "relay_networks": ["192.0.2.0/24"]},
}


def _skip_or_fail(why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"swaks is needed under CI=true: {why}")
    pytest.skip(f"*** NOT TESTED WITH SWAKS: {why} ***")


class Run(NamedTuple):
    """How swaks ended, and what was said."""

    status: int
    said: str


class Site:
    """The ingress process, and what its broker was given."""

    def __init__(self, pipeline: Pipeline, ports: dict[str, int]) -> None:
        self.pipeline, self.ports = pipeline, ports
        self.accepted: asyncio.Queue[AcceptedMail] = asyncio.Queue()

    def take(self, delivery: Delivery) -> None:
        """The handler of the queue of accepted mail."""
        mail = decode(delivery.body)
        assert isinstance(mail, AcceptedMail)
        self.accepted.put_nowait(mail)
        delivery.ack()

    async def swaks(self, kind: str, *arguments: str, recipient: str = "c@d.test") -> Run:
        """Run it against the listener of that kind."""
        process = await asyncio.create_subprocess_exec(
            *("swaks", "--server", "127.0.0.1", "--port", str(self.ports[kind])),
            *("--helo", "client.example", "--from", "a@b.test", "--to", recipient),
            *("--timeout", str(TIMEOUT), *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "HOME": str(self.pipeline.folder), "LC_ALL": "C"},
        )
        async with asyncio.timeout(2 * TIMEOUT):
            said, _ = await process.communicate()
        assert process.returncode is not None
        return Run(process.returncode, said.decode("utf-8", "replace"))

    async def mail(self) -> AcceptedMail:
        """The one mail that the broker got."""
        async with asyncio.timeout(TIMEOUT):
            mail = await self.accepted.get()
        assert self.accepted.empty()
        assert mail.reverse_path == "a@b.test"
        return mail


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    if shutil.which("swaks") is None:
        _skip_or_fail("it is not installed")
    if (
        b"=== TLS supported"
        not in subprocess.run(
            ["swaks", "--support"], check=False, capture_output=True, timeout=TIMEOUT
        ).stdout
    ):
        _skip_or_fail("it has no TLS (libnet-ssleay-perl)")
    folder = tmp_path_factory.mktemp("swaks")
    certificate = trustme.CA().issue_cert("mta.example.net")
    certificate.cert_chain_pems[0].write_to_path(folder / "crt")
    certificate.private_key_pem.write_to_path(folder / "key")
    ports = {kind: free_port() for kind in KINDS}
    settings = {
        "ingress": {
            "listeners": [{**OPEN, **KINDS[kind], "port": port} for kind, port in ports.items()],
            "tls": {"certificate": str(folder / "crt"), "key": str(folder / "key")},
            "credentials_file": str(write_users(folder, USERS)),
            "max_message_bytes": 20_000,
        }
    }
    pipeline = Pipeline(folder / "run", f"embedded://{folder}/broker", {}, settings)
    site = Site(pipeline, ports)
    broker = connect_broker(load_settings(pipeline.config), "test")
    try:
        await pipeline.start(["ingress"])
        await broker.start()
        broker.consume(ACCEPTED, 10, site.take)
        yield site
        await pipeline.stop()
    finally:
        await broker.close()
        await pipeline.abort()


def received_by(mail: AcceptedMail) -> bytes:
    """How the trace line says it came (RFC 3848)."""
    return bytes(mail.content.inline).partition(b" with ")[2].split(b" ")[0]


async def test_plain(site: Site) -> None:
    run = await site.swaks("open", "--body", "line\n.dot\n..\n")
    assert run.status == 0, run.said
    mail = await site.mail()
    assert [recipient.address for recipient in mail.recipients] == ["c@d.test"]
    assert received_by(mail) == b"ESMTP"
    assert b"\r\nline\r\n.dot\r\n..\r\n" in bytes(mail.content.inline)


async def test_helo(site: Site) -> None:
    run = await site.swaks("open", "--protocol", "SMTP", "--port", str(site.ports["open"]))
    assert run.status == 0, run.said
    assert received_by(await site.mail()) == b"SMTP"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize(("kind", "tls"), [("starttls", "--tls"), ("implicit", "--tls-on-connect")])
async def test_tls_and_auth(site: Site, kind: str, tls: str, mechanism: str) -> None:
    run = await site.swaks(kind, tls, "--auth", mechanism, *LOGIN)
    assert run.status == 0, run.said
    mail = await site.mail()
    assert received_by(mail) == b"ESMTPSA"
    assert mail.tenant == "t"


async def test_a_wrong_password(site: Site) -> None:
    wrong = ("--auth-user", "al", "--auth-password", "guess")
    run = await site.swaks("implicit", "--tls-on-connect", "--auth", "PLAIN", *wrong)
    assert run.status == AUTH_REFUSED, run.said
    assert "535 5.7.8" in run.said


async def test_without_auth_nothing_is_taken_for_submission(site: Site) -> None:
    run = await site.swaks("starttls", "--tls")
    assert run.status == MAIL_REFUSED, run.said
    assert "530 5.7.0" in run.said


async def test_pipelining(site: Site) -> None:
    run = await site.swaks("open", "--pipeline", recipient="c@d.test,e@f.test")
    assert run.status == 0, run.said
    mail = await site.mail()
    assert [recipient.address for recipient in mail.recipients] == ["c@d.test", "e@f.test"]


async def test_a_message_above_the_size_that_was_announced(site: Site) -> None:
    large = "x" * 900 + "\n"
    run = await site.swaks("open", "--body", large * 30)
    assert run.status == DATA_REFUSED, run.said
    assert "250-SIZE 20000" in run.said
    assert "552 5.3.4" in run.said
    assert site.accepted.empty()


async def test_eight_bits(site: Site) -> None:
    run = await site.swaks("open", "--body", "Grüße\n", "--header", "Subject: plain")
    assert run.status == 0, run.said
    assert "250-8BITMIME" in run.said
    mail = await site.mail()
    assert mail.eight_bit
    assert "Grüße\r\n".encode() in bytes(mail.content.inline)


@pytest.mark.parametrize("version", ["1", "2"])
async def test_the_proxy_protocol(site: Site, version: str) -> None:
    family = {"1": "TCP4", "2": "AF_INET"}[version]
    header = ["--proxy-version", version, "--proxy-family", family]
    header += ["--proxy-dest", "127.0.0.1", "--proxy-dest-port", "25"]
    source = ("--proxy-source", "192.0.2.7", "--proxy-source-port", "4711")
    run = await site.swaks("proxied", *header, *source)
    assert run.status == 0, run.said
    assert b"([192.0.2.7])" in bytes((await site.mail()).content.inline)
    stranger = ("--proxy-source", "198.51.100.7", "--proxy-source-port", "4711")
    run = await site.swaks("proxied", *header, *stranger)
    assert run.status == NO_RECIPIENT, run.said
    assert "550 5.7.1 Relaying denied" in run.said
    assert site.accepted.empty()
