"""Each timeout of RFC 5321, 4.5.3.2, is a setting of its own, and ends what it is for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.delivery.upload import BLOCK
from services.demo.receiver import Script, Stage
from shared.messages.model import Content, MailExchanger
from shared.settings.load import ConfigError, load_settings
from shared.settings.sending import TimeoutSettings
from tests.integration.test_delivery import retried, rig
from tests.integration.test_delivery_tls import server_context
from tests.support.raw_peer import Conversation, RawPeer

MINUTE = 60.0
SHORT = "80ms"


def test_the_defaults_are_those_of_rfc_5321() -> None:
    timeouts = TimeoutSettings()
    minutes = [
        getattr(timeouts, step) / 60_000
        for step in ("greeting", "mail", "rcpt", "data", "block", "final_dot")
    ]
    assert minutes == [5, 5, 5, 2, 3, 10]


def test_a_wait_that_outlasts_the_brokers_patience_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "postroad.yaml"
    file.write_text("delivery: {timeouts: {final_dot: 20m}}")
    with pytest.raises(ConfigError, match=r"^delivery\.timeouts\.final_dot: is more than 12m"):
        load_settings(file)


@pytest.mark.parametrize(
    ("key", "stage", "shown"),
    [
        ("greeting", Stage.BANNER, ()),
        ("ehlo", Stage.EHLO, ()),
        ("mail", Stage.MAIL, ()),
        ("rcpt", Stage.RCPT, ()),
        ("data", Stage.DATA, ()),
        ("final_dot", Stage.DOT, ()),
        ("final_dot", Stage.DOT, ("CHUNKING",)),
    ],
)
@pytest.mark.parametrize("hidden", [frozenset[str](), frozenset({"PIPELINING"})])
async def test_a_late_reply_defers(
    tmp_path: Path, key: str, stage: Stage, shown: tuple[str, ...], hidden: frozenset[str]
) -> None:
    script = Script(delays={stage: MINUTE}, shown=shown, hidden=hidden)
    async with rig(tmp_path, script, timeouts={key: SHORT}) as r:
        assert retried((await r.successors(r.job()))[0]).attempt == 1


async def test_a_late_reply_to_a_chunk_defers(tmp_path: Path) -> None:
    script = Script(delays={Stage.CHUNK: MINUTE}, shown=("CHUNKING",))
    async with rig(tmp_path, script, timeouts={"block": "300ms"}) as r:
        text = b"x" * 78 + b"\r\n"
        text *= 5_000_000 // len(text)
        await r.store.put("aa/mail", text)
        job = r.job(content=Content(len(text), blob="aa/mail"))
        assert retried((await r.successors(job))[0]).attempt == 1


async def test_a_peer_that_does_not_take_the_content_defers(tmp_path: Path) -> None:
    async def behave(peer: Conversation) -> None:
        await peer.greet()
        for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            await peer.line()
            await peer.say(reply)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(MINUTE)

    async with rig(tmp_path, timeouts={"block": "300ms"}) as r, RawPeer(behave) as peer:
        text = (b"x" * 78 + b"\r\n") * (BLOCK * 60 // 80)
        await r.store.put("aa/mail", text)
        exchangers = (MailExchanger(10, "mx.b.test", peer.port),)
        job = r.job(content=Content(len(text), blob="aa/mail"), exchangers=exchangers)
        assert retried((await r.successors(job))[0]).attempt == 1


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port where the system answers no further connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(8):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
            waiting.append(one)
        try:
            yield listener.getsockname()[1]
        finally:
            for one in waiting:
                one.close()


async def test_a_host_that_does_not_let_us_connect_is_left_for_the_next(tmp_path: Path) -> None:
    async with rig(tmp_path, timeouts={"connect": SHORT}) as r:
        with full_backlog() as port:
            ports = (port, r.receiver.port)
            exchangers = tuple(MailExchanger(n, "mx.b.test", port) for n, port in enumerate(ports))
            await r.give(r.job(exchangers=exchangers))
            await r.receiver.wait_for(1)


@pytest.mark.parametrize("answer", [b"", b"220 go ahead\r\n"])
async def test_a_handshake_that_does_not_end_is_followed_by_clear_text(
    tmp_path: Path, answer: bytes
) -> None:
    async def behave(peer: Conversation) -> None:
        await peer.greet(b"STARTTLS")
        if await peer.line() == b"STARTTLS\r\n":
            await peer.say(answer)
            await asyncio.sleep(MINUTE)
        clear.set()

    clear = asyncio.Event()
    async with rig(tmp_path, timeouts={"tls": SHORT}) as r, RawPeer(behave) as peer:
        await r.give(r.job(exchangers=(MailExchanger(10, "mx.b.test", peer.port),)))
        async with asyncio.timeout(5):
            await clear.wait()


async def test_a_peer_that_does_not_answer_quit_is_left(tmp_path: Path) -> None:
    script = Script(delays={Stage.QUIT: MINUTE})
    async with rig(tmp_path, script, timeouts={"quit": SHORT}, messages_per_connection=1) as r:
        await r.give(r.job())
        await r.receiver.wait_for(1)
        await r.receiver.wait_for(lambda: not r.receiver.open_connections)


async def test_a_session_over_tls_has_the_same_timeouts(tmp_path: Path) -> None:
    script = Script(delays={Stage.MAIL: MINUTE})
    async with rig(tmp_path, script, server_context(), timeouts={"mail": SHORT}) as r:
        assert retried((await r.successors(r.job()))[0]).attempt == 1
