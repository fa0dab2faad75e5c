"""The smallest HTTP client: one request, one answer, a connection each."""

from __future__ import annotations

import asyncio


async def request(
    port: int, path: str, method: str = "GET", accept: str = "*/*"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, and body of one request to this host."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
        )
        writer.write(head.encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    status, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = status.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, body
