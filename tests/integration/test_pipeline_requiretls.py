"""REQUIRETLS from a client under TLS through three real processes (RFC 8689)."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from services.demo.receiver import Receiver
from services.demo.script import Script
from tests.support.dns_authority import DnsAuthority, serving
from tests.support.pipeline import Pipeline, free_port
from tests.support.rabbitmq import ForeignServer, RabbitNode
from tests.support.smtp_client import SmtpClient
from tests.support.tls_site import make_site

CONTENT = b"From: <me@sender.test>\r\nSubject: x\r\n\r\nbody\r\n.\r\n"
PROMISES = Script(shown=("REQUIRETLS",))
ZONE = {
    ("validated.test.", "MX"): ["10 mx.validated.test."],
    ("mx.validated.test.", "A"): ["127.0.0.1"],
    ("forged.test.", "MX"): ["10 mx.validated.test."],
}


async def submit(client: SmtpClient, *recipients: str) -> None:
    """A mail to each; the whole is asked to come back, and never will."""
    for recipient in recipients:
        answer = await client.command("MAIL FROM:<me@sender.test> REQUIRETLS RET=FULL")
        assert answer.code == 250
        assert (await client.command(f"RCPT TO:<{recipient}>")).code == 250
        assert (await client.command("DATA")).code == 354
        await client.write(CONTENT)
        assert (await client.reply()).code == 250


def statuses(receiver: Receiver) -> dict[bytes, bytes]:
    found = {}
    for mail in receiver.messages:
        fields = dict(
            line.split(b": ", 1) for line in mail.content.splitlines() if line.count(b": ")
        )
        found[fields[b"Final-Recipient"]] = fields[b"Status"]
    return found


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "embedded":
        return f"embedded://{tmp_path}/b"
    server: RabbitNode | ForeignServer = request.getfixturevalue("rabbitmq")
    return server.new_vhost()


async def test_it_goes_on_under_verified_tls_or_comes_back(tmp_path: Path, broker_url: str) -> None:
    site = make_site(tmp_path)
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "mx.validated.test").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    names = DnsAuthority(ZONE)
    names.validated.add("validated.test.")
    port = free_port()
    listener = {"address": "127.0.0.1", "port": port, "tls": "starttls", "auth": "none"}
    async with (
        Receiver(PROMISES, tls=context) as promises,
        Receiver(Script(), tls=context) as silent,
        Receiver(PROMISES, tls=context) as home,
        Receiver(PROMISES) as clear,
        serving(names) as dns,
    ):
        ports = {"promises.test": promises.port, "silent.test": silent.port}
        ports |= {"sender.test": home.port, "clear.test": clear.port}
        settings = {
            "ingress": {
                "listeners": [{**listener, "relay_networks": ["127.0.0.0/8"]}],
                "tls": site.files,
            },
            "dns": {"nameservers": list(dns.nameservers), "trust_ad": True},
            "delivery": {
                "tls_authority": str(tmp_path / "authority.pem"),
                "smtp_port": promises.port,
                "allow_private_addresses": True,
            },
        }
        async with (
            Pipeline(tmp_path / "p", broker_url, ports, settings),
            SmtpClient(port) as client,
        ):
            assert "REQUIRETLS" in (await client.starttls(site.client)).text.split("\n")
            await submit(client, "a@promises.test", "b@validated.test")
            kept = await promises.wait_for(2, timeout=20)
            assert [(mail.tls, "REQUIRETLS" in mail.mail_parameters) for mail in kept] == [
                (True, True),
                (True, True),
            ]
            await submit(client, "c@silent.test", "d@clear.test", "e@forged.test")
            notices = await home.wait_for(3, timeout=20)
            assert statuses(home) == {
                b"rfc822; c@silent.test": b"5.7.30",
                b"rfc822; d@clear.test": b"5.7.10",
                b"rfc822; e@forged.test": b"5.7.10",
            }
            for notice in notices:
                assert (notice.reverse_path, notice.tls) == ("", True)
                assert "REQUIRETLS" in notice.mail_parameters
                assert b"body" not in notice.content
            assert not any(b"MAIL" in raw for raw in clear.raw)
            assert len(promises.messages) == 2
