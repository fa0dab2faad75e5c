"""New credentials and certificates are taken up while it runs; broken files change nothing."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from prometheus_client import REGISTRY

from services.ingress.credentials import Credential, load_credentials
from services.ingress.renewal import watch_certificate, watch_credentials
from services.ingress.tls import server_context
from shared.settings.accepting import TlsSettings
from tests.support.ingress import OPEN, ingress_settings, running_ingress, write_users

AL, BO = {"username": "al", "password": "one"}, {"username": "bo", "password": "two"}
PAUSE = 0.005


def reloads(metric: str, result: str) -> float:
    return REGISTRY.get_sample_value(f"postroad_{metric}_reloads_total", {"result": result}) or 0.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def issue(folder: Path, name: str) -> None:
    leaf = trustme.CA().issue_cert(name)
    leaf.private_key_pem.write_to_path(folder / "tls.key")
    leaf.cert_chain_pems[0].write_to_path(folder / "tls.crt")


async def shown(context: ssl.SSLContext) -> str:
    """The name in the certificate of a new handshake."""
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context
    )
    port = server.sockets[0].getsockname()[1]
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
    octets = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    server.close()
    found = x509.load_der_x509_certificate(octets)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)[0]


async def test_a_new_certificate_is_shown_and_a_broken_one_is_not(tmp_path: Path) -> None:
    issue(tmp_path, "old.test")
    settings = TlsSettings(certificate=tmp_path / "tls.crt", key=tmp_path / "tls.key")
    context = server_context(settings)
    watch = watch_certificate(settings, context, pause=PAUSE)
    watch.start()
    try:
        assert await shown(context) == "old.test"
        left = REGISTRY.get_sample_value("postroad_certificate_seconds_left")
        assert left is not None
        assert left > 3600
        failed = reloads("certificate", "failed")
        (tmp_path / "tls.key").write_text("no key")
        await until(lambda: reloads("certificate", "failed") > failed)
        assert await shown(context) == "old.test"
        renewed = reloads("certificate", "ok")
        issue(tmp_path, "new.test")
        await until(lambda: reloads("certificate", "ok") > renewed)
        assert await shown(context) == "new.test"
    finally:
        await watch.stop()


async def test_users_come_and_go_with_the_file_and_stay_when_it_is_broken(tmp_path: Path) -> None:
    path = write_users(tmp_path, [AL])
    taken: list[list[str]] = []

    def take(users: object) -> None:
        assert isinstance(users, list)
        taken.append([user.username for user in users if isinstance(user, Credential)])

    watch = watch_credentials(path, load_credentials(path), take, pause=PAUSE)
    watch.start()
    try:
        failed = reloads("credentials", "failed")
        path.write_text("- {username: al}\n")
        await until(lambda: reloads("credentials", "failed") > failed)
        assert taken == []
        write_users(tmp_path, [AL, BO])
        await until(lambda: bool(taken))
        assert taken == [["al", "bo"]]
    finally:
        await watch.stop()


async def test_a_running_ingress_knows_new_users_and_forgets_old_ones(tmp_path: Path) -> None:
    path = write_users(tmp_path, [AL])
    listener = {**OPEN, "auth": "required", "auth_without_tls": True}
    settings = ingress_settings(tmp_path, listener, credentials_file=str(path))

    def login(name: str, password: str) -> None:
        with smtplib.SMTP("127.0.0.1", ingress.port, timeout=10) as client:
            client.login(name, password)

    async with running_ingress(tmp_path, settings) as ingress:
        await asyncio.to_thread(login, "al", "one")
        renewed = reloads("credentials", "ok")
        write_users(tmp_path, [BO])
        ingress.service.look_again()
        await until(lambda: reloads("credentials", "ok") > renewed)
        await asyncio.to_thread(login, "bo", "two")
        with pytest.raises(smtplib.SMTPAuthenticationError):
            await asyncio.to_thread(login, "al", "one")


async def test_an_open_session_ends_when_its_user_has_changed(tmp_path: Path) -> None:
    path = write_users(tmp_path, [AL, BO])
    kept = path.read_text().split("- ")[2]
    listener = {**OPEN, "auth": "required", "auth_without_tls": True}
    settings = ingress_settings(tmp_path, listener, credentials_file=str(path))

    def login(name: str, password: str) -> smtplib.SMTP:
        client = smtplib.SMTP("127.0.0.1", ingress.port, timeout=10)
        client.login(name, password)
        assert client.mail("a@b.test")[0] == 250
        return client

    async with running_ingress(tmp_path, settings) as ingress:
        al = await asyncio.to_thread(login, "al", "one")
        bo = await asyncio.to_thread(login, "bo", "two")
        renewed = reloads("credentials", "ok")
        write_users(tmp_path, [{**AL, "messages_per_hour": 1}])
        path.write_text(path.read_text() + "- " + kept)
        ingress.service.look_again()
        await until(lambda: reloads("credentials", "ok") > renewed)

        def go_on() -> None:
            with al, bo:
                # The transaction that had begun may end; the next one needs a new login.
                assert al.docmd("RCPT TO:<c@d.test>")[0] == 250
                assert al.docmd("RSET")[0] == 250
                answer = al.docmd("MAIL FROM:<a@b.test>")
                assert answer == (421, b"4.7.0 The user has changed, authenticate anew")
                assert al.file is not None
                assert al.file.read() == b""
                assert bo.docmd("RSET")[0] == 250
                assert bo.docmd("MAIL FROM:<a@b.test>")[0] == 250
                al.close()

        await asyncio.to_thread(go_on)
