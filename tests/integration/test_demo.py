from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rabbitmq import ForeignServer, RabbitNode

ROWS = ("accepted", "delivered", "deferred first", "bounced with DSN", "parked", "lost")
TIMEOUT = 150.0


async def start(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli", "demo", *arguments),
        env={**os.environ, "TMPDIR": str(folder), "PYTHONFAULTHANDLER": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def finish(process: asyncio.subprocess.Process) -> str:
    text = asyncio.ensure_future(process.communicate())
    await asyncio.wait([text], timeout=TIMEOUT)
    if not text.done():
        process.send_signal(signal.SIGABRT)  # it says where it is, on its standard error
        await asyncio.wait([text], timeout=10.0)
        pytest.fail(f"not within {TIMEOUT} s: {text.result()[0].decode() if text.done() else ''}")
    return text.result()[0].decode()


def number(text: str, row: str) -> int:
    match = re.search(rf"^\s*{row}\s+([\d,]+)", text, re.MULTILINE)
    assert match, text
    return int(match[1].replace(",", ""))


async def check_demo(folder: Path, *arguments: str) -> None:
    process = await start(folder, "--messages", "60", *arguments)
    text = await finish(process)
    assert process.returncode == 0, text
    assert number(text, "accepted") == number(text, "delivered") + number(text, "bounced with DSN")
    assert number(text, "deferred first") > 0
    assert number(text, "bounced with DSN") > 0
    assert number(text, "lost") == number(text, "unexpected") == number(text, "duplicates") == 0
    assert "nothing lost, nothing unexpected" in text
    assert list(folder.iterdir()) == []


@pytest.mark.slow
async def test_the_demo_accounts_for_every_recipient_on_the_embedded_broker(
    tmp_path: Path,
) -> None:
    await check_demo(tmp_path)


@pytest.mark.slow
@pytest.mark.rabbitmq
async def test_the_demo_accounts_for_every_recipient_on_rabbitmq(
    tmp_path: Path, rabbitmq: RabbitNode | ForeignServer
) -> None:
    await check_demo(tmp_path, "--broker", rabbitmq.new_vhost())


async def test_a_broker_url_that_cannot_be_used_is_one_line_and_exit_2(tmp_path: Path) -> None:
    process = await start(tmp_path, "--broker", "redis://localhost")
    text = await finish(process)
    assert process.returncode == 2
    assert text.splitlines()[-1].startswith("postroad: broker.url: the scheme must be")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Who starts the tests in the background may have told all processes to ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
async def test_an_interrupted_demo_stops_everything_and_says_so(tmp_path: Path) -> None:
    process = await start(tmp_path, "--messages", "100000")
    assert process.stdout is not None
    async with asyncio.timeout(TIMEOUT):
        while b"messages accepted" not in await process.stdout.readline():
            pass
    process.send_signal(signal.SIGINT)
    text = await finish(process)
    assert process.returncode == 130, text
    assert "Interrupted" in text
    (folder,) = tmp_path.iterdir()
    for name in ("ingress", "router", "delivery"):
        assert b'"draining"' in (folder / "logs" / f"{name}.log").read_bytes()
