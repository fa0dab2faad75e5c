"""TLS and AUTH, with Python's own client and with hostile ones."""

from __future__ import annotations

import asyncio
import base64
import logging
import smtplib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.ingress import passwords
from services.ingress.server import SmtpServer
from services.ingress.throttle import MOST_OF_PLACE
from shared.logs import configure_logging
from shared.settings.model import LoggingSettings
from tests.support.ingress import RunningIngress, running_ingress
from tests.support.tls_site import Site, make_site

TIMEOUT = 10.0


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


PLAIN = b64(b"\0alice\0secret")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture
async def submission(site: Site) -> AsyncIterator[RunningIngress]:
    async with running_ingress(site.folder, site.settings(tls="starttls")) as ingress:
        yield ingress


async def in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.wait_for(asyncio.to_thread(work), TIMEOUT)


async def test_starttls_then_auth_then_mail(submission: RunningIngress, site: Site) -> None:
    def work() -> None:
        with smtplib.SMTP("127.0.0.1", submission.port, timeout=TIMEOUT) as client:
            client.starttls(context=site.client)
            client.login("alice", "secret")
            client.sendmail("a@b.test", ["c@d.test"], b"Subject: x\r\n\r\nbody\r\n")

    await in_thread(work)
    (mail,) = submission.accepted()
    received = bytes(mail.content.inline).partition(b"\r\nSubject:")[0]
    assert b"with ESMTPSA id" in received
    assert b"\r\n\t(using TLSv1.3 TLS_" in received
    assert b"alice" not in received
    assert mail.message_class == "bulk"


async def test_implicit_tls(site: Site) -> None:
    async with running_ingress(site.folder, site.settings(tls="implicit")) as ingress:

        def work() -> None:
            with smtplib.SMTP_SSL(
                "127.0.0.1", ingress.port, context=site.client, timeout=TIMEOUT
            ) as client:
                client.login("bob", "pass word")
                client.sendmail(
                    "a@b.test", ["c@d.test"], b"Subject: x\r\n\r\n" + b"x\r\n" * 100_000
                )

        await in_thread(work)
        (mail,) = ingress.accepted()
        assert mail.tenant == "b"


@pytest.mark.parametrize("mechanism", ["auth_plain", "auth_login"])
@pytest.mark.parametrize("initial", [True, False])
async def test_each_mechanism_with_and_without_initial_response(
    submission: RunningIngress, site: Site, mechanism: str, initial: bool
) -> None:
    def work() -> tuple[int, bytes]:
        client = smtplib.SMTP("127.0.0.1", submission.port, timeout=TIMEOUT)
        client.starttls(context=site.client)
        client.ehlo()
        client.user, client.password = "alice", "secret"
        name = mechanism.removeprefix("auth_")  # in lower case: names have none
        reply = client.auth(name, getattr(client, mechanism), initial_response_ok=initial)
        assert client.docmd("AUTH PLAIN " + PLAIN)[0] == 503
        client.quit()
        return reply

    assert await in_thread(work) == (235, b"2.7.0 Authentication succeeded")


async def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(
    submission: RunningIngress, site: Site
) -> None:
    def answer(user: str, password: str) -> bytes | str:
        with smtplib.SMTP("127.0.0.1", submission.port, timeout=TIMEOUT) as client:
            client.starttls(context=site.client)
            with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
                client.login(user, password)
            return caught.value.smtp_error

    be_quick(submission)
    first = await in_thread(lambda: answer("alice", "wrong"))
    second = await in_thread(lambda: answer("nobody", "secret"))
    assert first == second == b"5.7.8 Authentication credentials invalid"


def be_quick(ingress: RunningIngress) -> None:
    """Let no answer to a wrong password wait."""
    assert ingress.service._authentication is not None
    ingress.service._authentication._throttle._first_delay = 0.0


class Wire:
    """A client that sends octets as they are, first in the clear and then inside TLS."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Wire:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        assert (await self.line()).startswith("220 ")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def line(self) -> str:
        return (await asyncio.wait_for(self.reader.readuntil(b"\r\n"), TIMEOUT)).decode()[:-2]

    async def ask(self, command: str) -> str:
        self.writer.write(command.encode() + b"\r\n")
        while (line := await self.line())[3] == "-":
            pass
        return line

    async def upgrade(self, site: Site) -> None:
        await self.writer.start_tls(site.client, server_hostname="localhost")


async def test_commands_injected_after_starttls_are_dropped(
    submission: RunningIngress, site: Site
) -> None:
    async with Wire(submission.port) as wire:
        await wire.ask("EHLO attacker.example")
        wire.writer.write(b"STARTTLS\r\nEHLO attacker.example\r\nNOOP\r\nBOGUS\r\n")
        assert (await wire.line()).startswith("220 2.0.0")
        await wire.upgrade(site)
        # The first reply inside TLS is that to the first command inside TLS.
        assert await wire.ask("MAIL FROM:<a@b.test>") == "503 5.5.1 Send EHLO first"
        assert await wire.ask("NOOP") == "250 2.0.0 Ok"


async def test_tls_makes_the_session_new(submission: RunningIngress, site: Site) -> None:
    async with Wire(submission.port) as wire:
        await wire.ask("EHLO client.example")
        assert (await wire.ask("AUTH PLAIN " + PLAIN)).startswith("538 5.7.11")
        await wire.ask("STARTTLS")
        await wire.upgrade(site)
        await wire.ask("EHLO client.example")
        assert await wire.ask("MAIL FROM:<a@b.test>") == "530 5.7.0 Authentication required"
        assert await wire.ask("STARTTLS") == "503 5.5.1 TLS is active"


async def test_a_client_that_talks_plain_text_after_starttls_is_cut_off(
    submission: RunningIngress,
) -> None:
    async with Wire(submission.port) as wire:
        await wire.ask("EHLO client.example")
        await wire.ask("STARTTLS")
        wire.writer.write(b"EHLO again\r\n" * 10)
        rest = await asyncio.wait_for(wire.reader.read(), TIMEOUT)
        assert b"250" not in rest
    await submission_is_empty(submission)


async def test_a_client_that_vanishes_in_the_handshake_is_forgotten(
    submission: RunningIngress,
) -> None:
    async with Wire(submission.port) as wire:
        await wire.ask("EHLO client.example")
        await wire.ask("STARTTLS")
        wire.writer.transport.abort()
    await submission_is_empty(submission)


async def submission_is_empty(ingress: RunningIngress) -> None:
    async with asyncio.timeout(TIMEOUT):
        while len(ingress.service._sessions):
            await asyncio.sleep(0.01)


@pytest.fixture
async def in_the_clear(site: Site) -> AsyncIterator[RunningIngress]:
    settings = site.settings(tls="none", auth_without_tls=True)
    async with running_ingress(site.folder, settings) as ingress:
        yield ingress


async def test_auth_without_tls_where_the_listener_allows_it(in_the_clear: RunningIngress) -> None:
    async with Wire(in_the_clear.port) as wire:
        await wire.ask("EHLO client.example")
        # Octets behind the exchange stay for the commands after it.
        wire.writer.write(f"AUTH PLAIN {PLAIN}\r\nMAIL FROM:<a@b.test>\r\nNOOP\r\n".encode())
        replies = [await wire.line() for _ in range(3)]
        assert [reply[:3] for reply in replies] == ["235", "250", "250"]
        assert await wire.ask("AUTH PLAIN") == "503 5.5.1 Already authenticated"


@pytest.mark.parametrize(
    ("lines", "answers"),
    [
        (["AUTH PLAIN", "*"], ["334", "501 5.7.0"]),
        (["AUTH PLAIN", "!!"], ["334", "501 5.5.2"]),
        (["AUTH PLAIN", ""], ["334", "501 5.5.2"]),
        (["AUTH PLAIN !!"], ["501 5.5.2"]),
        (["AUTH PLAIN ="], ["501 5.5.2"]),
        (["AUTH PLAIN AGFsaWNl"], ["501 5.5.2"]),
        (["AUTH PLAIN " + b64(b"\0\0secret")], ["501 5.5.2"]),
        (["AUTH PLAIN " + b64(b"\0alice\0secret\0")], ["501 5.5.2"]),
        (["AUTH PLAIN " + b64(b"boss\0alice\0secret")], ["535 5.7.8"]),
        (["AUTH PLAIN " + b64(b"alice\0alice\0secret")], ["235 2.7.0"]),
        (["AUTH LOGIN", "YWxpY2U=", "*"], ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "501 5.7.0"]),
        (["AUTH LOGIN YWxpY2U=", "c2VjcmV0"], ["334 UGFzc3dvcmQ6", "235 2.7.0"]),
        (["AUTH LOGIN =", "c2VjcmV0"], ["334 UGFzc3dvcmQ6", "535 5.7.8"]),
        (["AUTH PLAIN", "x" * 13_000], ["334", "500 5.5.6"]),
        (["AUTH PLAIN", "AA\nAA"], ["334", "500 5.5.2"]),
        (["AUTH CRAM-MD5"], ["504 5.5.4"]),
        (["AUTH"], ["501 5.5.4"]),
    ],
)
async def test_an_exchange_that_fails_is_answered_and_the_session_goes_on(
    in_the_clear: RunningIngress, lines: list[str], answers: list[str]
) -> None:
    async with Wire(in_the_clear.port) as wire:
        await wire.ask("EHLO client.example")
        for line, answer in zip(lines, answers, strict=True):
            assert (await wire.ask(line)).startswith(answer)
        assert await wire.ask("NOOP") == "250 2.0.0 Ok"


async def test_failures_are_slower_each_time_and_end_the_session(
    in_the_clear: RunningIngress,
) -> None:
    be_quick(in_the_clear)
    wrong = base64.b64encode(b"\0alice\0wrong").decode()
    async with Wire(in_the_clear.port) as wire:
        await wire.ask("EHLO client.example")
        for _ in range(5):
            assert (await wire.ask("AUTH PLAIN " + wrong)).startswith("535 5.7.8")
        assert (await wire.line()).startswith("421 4.7.0")
        assert await wire.reader.read() == b""


def counted(mechanism: str, result: str) -> float:
    labels = {"mechanism": mechanism, "result": result}
    return REGISTRY.get_sample_value("postroad_ingress_auth_total", labels) or 0.0


async def test_a_place_that_guesses_over_many_sessions_is_sent_away(
    in_the_clear: RunningIngress,
) -> None:
    be_quick(in_the_clear)
    wrong, throttled = counted("PLAIN", "wrong"), counted("PLAIN", "throttled")
    for session in range(MOST_OF_PLACE // 5):
        async with Wire(in_the_clear.port) as wire:
            await wire.ask("EHLO client.example")
            for guess in range(5):
                name = f"user{session}.{guess}"
                answer = await wire.ask("AUTH PLAIN " + b64(f"\0{name}\0x".encode()))
                assert answer.startswith("535 5.7.8")
    async with Wire(in_the_clear.port) as wire:
        await wire.ask("EHLO client.example")
        assert (await wire.ask("AUTH PLAIN " + PLAIN)).startswith("421 4.7.0 Too many failed")
        assert await wire.reader.read() == b""
    assert counted("PLAIN", "wrong") == wrong + MOST_OF_PLACE
    assert counted("PLAIN", "throttled") == throttled + 1


async def test_too_many_checks_at_once_are_put_off(
    in_the_clear: RunningIngress, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = counted("PLAIN", "busy")
    monkeypatch.setattr(passwords, "MOST_OF_PLACE", 0)
    async with Wire(in_the_clear.port) as wire:
        await wire.ask("EHLO client.example")
        assert (await wire.ask("AUTH PLAIN " + PLAIN)).startswith("454 4.7.0")
        monkeypatch.undo()
        assert (await wire.ask("AUTH PLAIN " + PLAIN)).startswith("235")
    assert counted("PLAIN", "busy") == busy + 1


async def test_what_is_refused_before_an_exchange_is_counted_too(
    submission: RunningIngress,
) -> None:
    unencrypted = counted("LOGIN", "unencrypted"), counted("other", "unencrypted")
    async with Wire(submission.port) as wire:
        await wire.ask("EHLO client.example")
        assert (await wire.ask("AUTH login")).startswith("538")
        assert (await wire.ask("AUTH GSSAPI")).startswith("538")
    assert counted("LOGIN", "unencrypted") == unencrypted[0] + 1
    assert counted("other", "unencrypted") == unencrypted[1] + 1


async def test_a_client_may_vanish_in_the_middle_of_auth(in_the_clear: RunningIngress) -> None:
    async with Wire(in_the_clear.port) as wire:
        await wire.ask("EHLO client.example")
        await wire.ask("AUTH PLAIN")
        (session,) = in_the_clear.service._sessions._open
        assert isinstance(session, SmtpServer)
    await submission_is_empty(in_the_clear)
    assert session._task is not None
    await asyncio.wait([session._task], timeout=TIMEOUT)
    assert session._task.cancelled()


async def test_credentials_are_never_logged(
    in_the_clear: RunningIngress, capfd: pytest.CaptureFixture[str]
) -> None:
    be_quick(in_the_clear)
    configure_logging(LoggingSettings.model_validate({"level": "debug", "format": "json"}))
    try:
        for user, password in (("alice", "secret"), ("alice", "wrongpass"), ("a", "junk")):
            both = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
            async with Wire(in_the_clear.port) as wire:
                await wire.ask("EHLO client.example")
                await wire.ask("AUTH PLAIN " + both)
                await wire.ask("AUTH PLAIN !" + both)
                await wire.ask("AUTH LOGIN")
                await wire.ask("!" + both)
    finally:
        logging.getLogger().handlers.clear()
    logged = capfd.readouterr().err
    assert "authentication failed" in logged
    for secret in ("secret", "wrongpass", "AGFsaWNl", base64.b64encode(b"\0a\0junk").decode()):
        assert secret not in logged
