"""The admin endpoint of a service: /metrics, /livez and /readyz over HTTP.

Liveness says that the event loop turns and never asks the broker: an outage of the broker must
not restart anything. Readiness asks the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder

Answer = tuple[int, str, bytes]
TEXT = "text/plain; charset=utf-8"


class _Server(uvicorn.Server):
    """A uvicorn server that leaves the process's signal handlers alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class AdminServer:
    """Serves the three paths until closed; `ready` returns an empty text or why not.

    `registry` has what /metrics shows.
    """

    def __init__(
        self,
        address: str,
        port: int,
        ready: Callable[[], str],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._ready = ready
        self._registry = registry
        config = uvicorn.Config(
            self._application,
            host=address,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            interface="asgi3",
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._address = address
        self._port = port
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen; returns the port. Raises OSError if the address cannot be had."""
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        sock = socket.create_server((self._address, self._port), family=family)
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]))
        return int(sock.getsockname()[1])

    async def close(self) -> None:
        """Stop listening."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task

    async def _application(
        self,
        scope: dict[str, Any],
        _receive: Callable[[], Awaitable[Any]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        accepted = ",".join(
            [value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"]
        )
        status, kind, body = await self._answer(scope["method"], scope["path"], accepted)
        headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, method: str, path: str, accepted: str) -> Answer:
        if method not in {"GET", "HEAD"}:
            return 405, TEXT, b"only GET\n"
        if path == "/metrics":
            # OpenMetrics, which has exemplars, for who asks for it; Prometheus does.
            encode, kind = choose_encoder(accepted)
            return 200, kind, await asyncio.to_thread(encode, self._registry)
        if path == "/livez":
            return 200, TEXT, b"ok\n"
        if path == "/readyz":
            reason = self._ready()
            return (503, TEXT, f"{reason}\n".encode()) if reason else (200, TEXT, b"ok\n")
        return 404, TEXT, b"not found\n"
