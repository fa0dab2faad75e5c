"""Whole-way behaviour that needs a configuration of its own; the broker makes no difference."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer

from services.demo.script import GREYLISTED, Script
from tests.support.pipeline import eventually
from tests.support.rig import running_rig

UNSIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"


def ask_s3(url: str, method: str) -> bytes:
    request = Request(url, method=method, headers={"Authorization": UNSIGNED})
    with urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


@pytest.fixture
def s3_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that speaks S3, with a bucket `mail`."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    ask_s3(f"http://{host}:{port}/moto-api/reset", "POST")  # its buckets are those of the process
    ask_s3(f"http://{host}:{port}/mail", "PUT")
    yield f"http://{host}:{port}"
    server.stop()


async def test_an_expired_recipient_gets_a_dsn_with_the_last_reply(tmp_path: Path) -> None:
    settings = {"delivery": {"max_age": "1s", "retry_schedule": ["1s"]}}
    async with running_rig(tmp_path, f"embedded://{tmp_path}/broker", settings) as rig:
        recipient = rig.address()
        rig.script(Script(recipients={recipient: GREYLISTED}))
        await rig.insist([recipient])

        account = await rig.wait_accounted()
        assert (account.delivered, account.notified) == ({}, {recipient: 1})
        (dsn,) = rig.received("sender.test")
        assert b"451 4.7.1" in dsn.content


async def test_a_large_content_travels_through_s3_and_leaves_nothing_there(
    tmp_path: Path, s3_endpoint: str
) -> None:
    content = b"Subject: large\r\n\r\n" + (b"x" * 70 + b"\r\n") * 3000
    settings = {"content_store": {"url": "s3://mail/contents", "s3_endpoint": s3_endpoint}}
    async with running_rig(tmp_path, f"embedded://{tmp_path}/broker", settings) as rig:
        rig.pipeline.pause("router")
        recipients = [rig.address("one.test"), rig.address("two.test")]
        await rig.insist(recipients, content)
        assert await blobs(s3_endpoint) == 1, "durable before the 250"
        rig.pipeline.resume("router")

        account = await rig.wait_accounted()
        assert account.delivered == dict.fromkeys(recipients, 1)
        assert all(message.content.endswith(content) for message in rig.received())

        async def none_left() -> bool:
            return await blobs(s3_endpoint) == 0

        await eventually(none_left, "the blob and its markers are gone")


async def blobs(endpoint: str) -> int:
    listing = await asyncio.to_thread(ask_s3, f"{endpoint}/mail", "GET")
    return listing.count(b"<Contents>")
