from __future__ import annotations

import asyncio
import ssl
from functools import partial

import pytest
import trustme

from services.demo.receiver import Greylist, Receiver, Script, Stage
from shared.smtp.replies import Reply

ENVELOPE = b"MAIL FROM:<s@a.test> SIZE=10\r\nRCPT TO:<r@b.test>\r\nDATA\r\n"
CONTENT = b"Subject: x\r\nX-Id: 7\r\n\r\n..dot\r\n...\r\nbody\r\n.\r\n"


class Client:
    """A connection that writes bytes and reads reply lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, receiver: Receiver) -> Client:
        return cls(*await asyncio.open_connection(receiver.host, receiver.port))

    async def reply(self) -> str:
        async with asyncio.timeout(5):
            return (await self.reader.readline()).decode().rstrip("\r\n")

    async def whole_reply(self) -> list[str]:
        lines = [await self.reply()]
        while lines[-1][3:4] == "-":
            lines.append(await self.reply())
        return lines

    async def say(self, data: bytes) -> str:
        self.writer.write(data)
        return (await self.whole_reply())[-1]

    async def greet(self) -> list[str]:
        await self.reply()
        self.writer.write(b"EHLO me.test\r\n")
        return await self.whole_reply()

    async def send(self, envelope: bytes = ENVELOPE, content: bytes = CONTENT) -> list[str]:
        """One pipelined transaction; its replies up to the first that refuses."""
        self.writer.write(envelope)
        replies = [await self.reply() for _ in range(envelope.count(b"\r\n"))]
        if replies[-1].startswith("354"):
            replies.append(await self.say(content))
        return replies

    async def at_end(self) -> bool:
        async with asyncio.timeout(5):
            return await self.reader.read() == b""

    def close(self) -> None:
        self.writer.close()


def _has_octets(receiver: Receiver, octets: int) -> bool:
    return len(receiver.raw[0]) == octets


async def test_a_pipelined_transaction_is_recorded_dot_unstuffed() -> None:
    async with Receiver(clock=lambda: 12.5) as receiver:
        client = await Client.connect(receiver)
        await client.greet()
        replies = await client.send()
        assert [reply[:3] for reply in replies] == ["250", "250", "354", "250"]
        received = (await receiver.wait_for(1))[0]
        client.close()
    assert (received.reverse_path, received.recipients) == ("s@a.test", ("r@b.test",))
    assert received.mail_parameters == ("SIZE=10",)
    assert received.content == b"Subject: x\r\nX-Id: 7\r\n\r\n.dot\r\n..\r\nbody\r\n"
    assert received.header_value("x-id") == "7"
    assert (received.at, received.helo, received.tls) == (12.5, "me.test", False)
    assert bytes(receiver.raw[0]).endswith(CONTENT)


async def test_content_may_come_in_single_bytes_and_be_followed_by_the_next_command() -> None:
    content = b"..x\r\n.\r\n"
    async with Receiver() as receiver:
        client = await Client.connect(receiver)
        await client.greet()
        client.writer.write(ENVELOPE)
        for _ in range(3):
            await client.reply()
        octets = len(receiver.raw[0])
        for byte in content + b"NOOP\r\n":
            client.writer.write(bytes([byte]))
            octets += 1
            await receiver.wait_for(partial(_has_octets, receiver, octets))
        assert await client.reply() == "250 2.0.0 Ok"
        assert await client.reply() == "250 2.0.0 Ok"
        assert receiver.messages[0].content == b".x\r\n"
        client.close()


async def test_an_empty_content_is_a_content() -> None:
    async with Receiver() as receiver:
        client = await Client.connect(receiver)
        await client.greet()
        assert (await client.send(content=b".\r\n"))[-1].startswith("250")
        client.close()
    assert receiver.messages[0].content == b""


async def test_keeping_headers_only_keeps_a_digest_of_the_body() -> None:
    async with Receiver(keep="headers") as receiver:
        client = await Client.connect(receiver)
        await client.greet()
        await client.send(content=b"X-Id: 7\r\n\r\nabc\r\n.\r\n")
        client.close()
    received = receiver.messages[0]
    assert (received.content, received.header, received.size) == (b"", b"X-Id: 7", 16)
    assert received.body_digest.startswith("552bab6864c7a7b6")
    assert receiver.raw == [b""]


async def test_refused_mailboxes_match_whole_addresses_and_local_parts() -> None:
    script = Script(
        refused=frozenset({"nobody@", "x@b.test"}),
        recipients={"full@b.test": Reply(452, "4.2.2", "Full")},
    )
    async with Receiver(script) as receiver:
        client = await Client.connect(receiver)
        await client.greet()
        await client.say(b"MAIL FROM:<>\r\n")
        for address, code in (
            ("nobody@any.test", "550 5.1.1"),
            ("x@b.test", "550 5.1.1"),
            ("full@b.test", "452 4.2.2"),
            ("x@c.test", "250"),
        ):
            assert (await client.say(f"RCPT TO:<{address}>\r\n".encode())).startswith(code)
        assert (await client.say(b"DATA\r\n")).startswith("354")
        await client.say(b".\r\n")
        client.close()
    assert (receiver.messages[0].reverse_path, receiver.messages[0].recipients) == (
        "",
        ("x@c.test",),
    )


async def test_data_without_a_valid_recipient_is_refused() -> None:
    async with Receiver(Script(refused=frozenset({"r@"}))) as receiver:
        client = await Client.connect(receiver)
        await client.greet()
        assert [reply[:3] for reply in await client.send()] == ["250", "550", "554"]
        client.close()


async def test_a_greylist_refuses_the_first_tries_of_each_pair() -> None:
    async with Receiver(Script(greylist=Greylist(tries=2))) as receiver:
        client = await Client.connect(receiver)
        await client.greet()
        await client.say(b"MAIL FROM:<s@a.test>\r\n")
        rcpt = b"RCPT TO:<r@b.test>\r\n"
        replies = [await client.say(rcpt) for _ in range(3)]
        client.close()
    assert [reply[:9] for reply in replies] == ["451 4.7.1", "451 4.7.1", "250 2.1.5"]
    assert receiver.greylisted_tries == 2


async def test_a_greylist_may_mean_some_mailboxes_only() -> None:
    async with Receiver(Script(greylist=Greylist(prefix="later"))) as receiver:
        client = await Client.connect(receiver)
        await client.greet()
        await client.say(b"MAIL FROM:<s@a.test>\r\n")
        assert (await client.say(b"RCPT TO:<now@b.test>\r\n")).startswith("250")
        assert (await client.say(b"RCPT TO:<later1@b.test>\r\n")).startswith("451")
        assert not receiver.was_greylisted("s@a.test", "later1@b.test")
        assert (await client.say(b"RCPT TO:<later1@b.test>\r\n")).startswith("250")
        assert receiver.was_greylisted("s@a.test", "later1@b.test")
        assert not receiver.was_greylisted("s@a.test", "now@b.test")
        client.close()


async def test_a_greylist_may_go_by_time() -> None:
    now = 100.0
    async with Receiver(Script(greylist=Greylist(1, seconds=5)), clock=lambda: now) as receiver:
        client = await Client.connect(receiver)
        await client.greet()
        await client.say(b"MAIL FROM:<s@a.test>\r\n")
        rcpt = b"RCPT TO:<r@b.test>\r\n"
        assert (await client.say(rcpt)).startswith("451")
        assert (await client.say(rcpt)).startswith("451")
        now = 105.0
        assert (await client.say(rcpt)).startswith("250")
        client.close()


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT])
async def test_a_stage_answers_what_the_script_says(stage: Stage) -> None:
    async with Receiver(Script(replies={stage: Reply(452, "4.3.1", "Full")})) as receiver:
        client = await Client.connect(receiver)
        await client.greet()
        assert "452 4.3.1 Full" in await client.send()
        assert receiver.messages == []
        client.close()


async def test_banner_and_ehlo_can_be_anything_even_bytes() -> None:
    replies: dict[Stage, Reply | bytes] = {
        Stage.BANNER: b"999 \x00what\r\n",
        Stage.EHLO: Reply(502, "5.5.1", "No"),
    }
    async with Receiver(Script(replies=replies)) as receiver:
        client = await Client.connect(receiver)
        assert await client.reply() == "999 \x00what"
        assert (await client.say(b"EHLO x\r\n")).startswith("502")
        assert await client.say(b"HELO x\r\n") == "250 receiver.test"
        client.close()


@pytest.mark.parametrize("stage", [Stage.BANNER, Stage.EHLO, Stage.MAIL, Stage.DOT])
async def test_a_connection_drops_at_a_stage_without_a_reply(stage: Stage) -> None:
    async with Receiver(Script(drop_at=frozenset({stage}))) as receiver:
        client = await Client.connect(receiver)
        client.writer.write(b"EHLO x\r\n" + ENVELOPE + CONTENT)
        async with asyncio.timeout(5):
            answered = await client.reader.read()
        assert (b"354" in answered) == (stage is Stage.DOT)
        assert len(receiver.unanswered) == (stage is Stage.DOT)
        assert receiver.messages == []
        client.close()


async def test_a_delay_holds_back_that_reply_and_what_follows() -> None:
    async with Receiver(Script(delays={Stage.MAIL: 0.01})) as receiver:
        client = await Client.connect(receiver)
        await client.greet()
        assert [reply[:3] for reply in await client.send()] == ["250", "250", "354", "250"]
        client.close()


async def test_an_endless_reply_goes_on_until_the_client_leaves() -> None:
    async with Receiver(Script(endless=frozenset({Stage.EHLO}))) as receiver:
        client = await Client.connect(receiver)
        await client.reply()
        client.writer.write(b"EHLO x\r\n")
        async with asyncio.timeout(5):
            assert set((await client.reader.readexactly(140_000)).splitlines()) == {b"250-and more"}
        client.close()
        await receiver.wait_for(lambda: receiver.open_connections == 0)


async def test_extensions_can_be_hidden() -> None:
    async with Receiver(Script(hidden=frozenset({"PIPELINING", "SIZE"}), size=9)) as receiver:
        client = await Client.connect(receiver)
        assert await client.greet() == [
            "250-receiver.test",
            "250-8BITMIME",
            "250-SMTPUTF8",
            "250 ENHANCEDSTATUSCODES",
        ]
        assert (await client.say(b"MAIL FROM:<> SIZE=10\r\n")).startswith("552")
        client.close()


def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def test_starttls_forgets_the_session_and_takes_mail() -> None:
    server, trusting = certificates()
    async with Receiver(tls=server) as receiver:
        client = await Client.connect(receiver)
        assert "250 STARTTLS" in await client.greet()
        assert (await client.say(b"STARTTLS\r\nRSET\r\n")).startswith("220")
        await client.writer.start_tls(trusting, server_hostname="127.0.0.1")
        client.writer.write(b"EHLO again.test\r\n")
        assert "STARTTLS" not in " ".join(await client.whole_reply())
        await client.send()
        received = (await receiver.wait_for(1))[0]
        assert (received.tls, received.helo) == (True, "again.test")
        client.close()


async def test_bytes_can_follow_the_reply_to_starttls() -> None:
    server, _ = certificates()
    async with Receiver(Script(after_starttls=b"250-SIZE 1\r\n"), tls=server) as receiver:
        client = await Client.connect(receiver)
        await client.greet()
        assert (await client.say(b"STARTTLS\r\n")).startswith("220")
        assert await client.reply() == "250-SIZE 1"
        client.close()
        await receiver.wait_for(lambda: receiver.open_connections == 0)


async def test_waiting_has_an_end() -> None:
    async with Receiver() as receiver:
        with pytest.raises(TimeoutError):
            await receiver.wait_for(1, timeout=0.01)


async def test_the_script_may_change_while_it_runs() -> None:
    async with Receiver(Script(replies={Stage.DOT: Reply(451, "4.3.0", "Later")})) as receiver:
        client = await Client.connect(receiver)
        await client.greet()
        assert (await client.send())[-1].startswith("451")
        receiver.script = Script()
        assert (await client.send())[-1].startswith("250")
        client.close()


async def test_other_commands_and_wrong_orders_are_answered() -> None:
    async with Receiver() as receiver:
        client = await Client.connect(receiver)
        await client.greet()
        for command, code in (
            (b"VRFY x", "502"),
            (b"RCPT TO:<a@b>", "503"),
            (b"DATA", "503"),
            (b"MAIL what", "503"),
            (b"RSET", "250"),
            (b"NOOP", "250"),
            (b"STARTTLS", "503"),
            (b"QUIT", "221"),
        ):
            assert (await client.say(command + b"\r\n")).startswith(code)
        assert await client.at_end()
        client.close()
        assert receiver.connections == 1
