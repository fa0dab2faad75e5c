"""Binary contents (RFC 3030) through three real processes: octet for octet, or returned."""

from __future__ import annotations

from pathlib import Path

from services.demo.receiver import Receiver
from services.demo.script import Script
from tests.support.ingress import running_ingress
from tests.support.pipeline import Pipeline
from tests.support.smtp_client import SmtpClient

HEAD = b"MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
HEAD += b"Content-Transfer-Encoding: binary\r\n\r\n"
BODY = bytes(range(256)) + b"\r\n.\r\n" + b"\n" * 3 + b"\r" * 3 + b"." * 2000
LARGE = BODY * 40
"""Above what a message holds, so it goes through the content store."""


async def submit(client: SmtpClient, recipient: str, content: bytes) -> None:
    half = len(content) // 2
    assert (await client.command("MAIL FROM:<me@sender.test> BODY=BINARYMIME")).code == 250
    assert (await client.command(f"RCPT TO:<{recipient}>")).code == 250
    for part, last in ((content[:half], b""), (content[half:], b" LAST")):
        await client.write(b"BDAT %d%b\r\n%b" % (len(part), last, part))
        assert (await client.reply()).code == 250


async def test_a_binary_content_arrives_as_it_was_where_it_is_taken_and_is_returned_elsewhere(
    tmp_path: Path,
) -> None:
    lines_only = Receiver(Script(shown=("CHUNKING",)))
    async with (
        running_ingress(tmp_path / "next") as taker,
        lines_only,
        Receiver() as home,
        Pipeline(
            tmp_path / "pipeline",
            f"embedded://{tmp_path}/broker",
            {"takes.test": taker.port, "lines.test": lines_only.port, "sender.test": home.port},
        ) as pipeline,
        SmtpClient(pipeline.smtp_port) as client,
    ):
        for body in (BODY, LARGE):
            await submit(client, "a@takes.test", HEAD + body)
        await submit(client, "b@lines.test", HEAD + BODY)
        await taker.broker.wait_published(2, timeout=20)
        small, large = sorted(taker.accepted(), key=lambda mail: mail.content.size)
        assert bytes(small.content.inline).endswith(HEAD + BODY)
        stored = tmp_path / "next" / "content" / large.content.blob
        assert stored.read_bytes().endswith(HEAD + LARGE)
        assert small.binary
        assert large.binary

        (notice,) = await home.wait_for(1, timeout=20)
        assert notice.reverse_path == ""
        assert b"Final-Recipient: rfc822; b@lines.test\r\nAction: failed\r\nStatus: 5.6." in (
            notice.content
        )
        assert not lines_only.messages
