"""Memory of an ingress process with thousands of idle clients, and with endless input."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from shared.open_files import allow_connections
from tests.support.smtp_client import SmtpClient

ROOT = Path(__file__).parents[2]
SESSIONS = 2000
LIMIT_KIB = 150 * 1024

SERVER = """
import asyncio, sys
from pathlib import Path
import uvloop
from tests.support.ingress import running_ingress

async def main():
    async with running_ingress(Path(sys.argv[1])) as ingress:
        print(ingress.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)

uvloop.run(main())
"""


def resident_kib(pid: int) -> int:
    """What the process holds in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ValueError("no VmRSS")


async def test_two_thousand_idle_sessions_and_an_endless_line_take_little(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVER, str(tmp_path)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    allow_connections(SESSIONS)  # as many files for the clients here
    try:
        port = await read_port(process.stdout)
        async with AsyncExitStack() as stack:
            for _ in range(SESSIONS):
                client = await stack.enter_async_context(SmtpClient(port))
            idle = resident_kib(process.pid)
            assert idle < LIMIT_KIB
            await send_endless_line(client)
            assert resident_kib(process.pid) - idle < 10 * 1024
            async with SmtpClient(port) as honest:
                assert (await honest.send("a@b.test", ["c@d.test"], b"x\r\n")).code == 250
    finally:
        process.kill()
        await process.wait()


async def read_port(output: asyncio.StreamReader) -> int:
    """The first line that is a number; the log comes before it."""
    async with asyncio.timeout(30):
        while line := await output.readline():
            if line.strip().isdigit():
                return int(line)
    raise AssertionError("the server did not start")


async def send_endless_line(client: SmtpClient) -> None:
    """100 MB without a line end, or as much as the server bears."""
    try:
        for _ in range(100):
            await client.write(b"x" * 1_000_000)
    except ConnectionError:
        return
