"""Listening sockets: bound before anything is accepted, closed first when the service drains."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from contextlib import ExitStack

from services.ingress.context import Context
from services.ingress.link import count_refusal
from services.ingress.policy import is_in
from services.ingress.proxied import ProxiedServer
from services.ingress.server import SmtpServer
from services.ingress.tls import HANDSHAKE_TIMEOUT, SHUTDOWN_TIMEOUT
from shared.logs import get_logger
from shared.settings.accepting import ListenerSettings, ListenerTls
from shared.settings.load import ConfigError
from shared.smtp.server_replies import NO_TLS

BACKLOG = 1024


def bind_all(listeners: Iterable[ListenerSettings], *, shared: bool) -> list[socket.socket]:
    """A bound socket for each listener, or none at all. Raises `ConfigError`.

    `shared`: other processes may listen there as well, and each gets a part of the sessions.
    """
    with ExitStack() as opened:
        sockets = [
            opened.enter_context(bind(number, listener, shared=shared))
            for number, listener in enumerate(listeners)
        ]
        opened.pop_all()
        return sockets


def bind(number: int, listener: ListenerSettings, *, shared: bool) -> socket.socket:
    """A bound socket that does not listen yet. Raises `ConfigError` that names the listener."""
    family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((listener.address, listener.port))
    except OSError as error:
        sock.close()
        place = f"{listener.address} port {listener.port}"
        raise ConfigError(f"ingress.listeners.{number}: {place}: {error.strerror}") from None
    return sock


class Listener:
    """One address that accepts sessions."""

    def __init__(self, number: int, settings: ListenerSettings, context: Context) -> None:
        self._number = number
        self._settings = settings
        self._context = context
        self._server: asyncio.Server | ProxiedServer | None = None

    async def start(self, sock: socket.socket) -> tuple[str, int]:
        """Accept sessions on a bound socket; returns its address and port."""
        address, port = sock.getsockname()[:2]
        if self._settings.proxy_networks or self._settings.tls is ListenerTls.IMPLICIT:
            sessions = self._context.sessions
            self._server = ProxiedServer(sock, self._is_balancer, self._serve, sessions)
            self._server.start(BACKLOG)
        else:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: SmtpServer(self._context), sock=sock, backlog=BACKLOG
            )
        get_logger().info("listening", address=address, port=port, listener=self._number)
        return address, port

    def _is_balancer(self, peer: str) -> bool:
        return is_in(peer, self._settings.proxy_networks)

    async def _serve(self, client: socket.socket, address: str) -> None:
        session = SmtpServer(self._context, address)
        if self._settings.tls is ListenerTls.IMPLICIT:
            await self._secure(session, client, address)
        else:
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: session, client)

    async def _secure(self, session: SmtpServer, client: socket.socket, address: str) -> None:
        """TLS, for a session that counts already; who is refused gets no handshake (RFC 8314)."""
        refusal = session.admit(address, asyncio.current_task())
        if refusal is not None:
            count_refusal(refusal)
            client.close()
            return
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: session,
                client,
                ssl=self._context.tls,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
            )
        except OSError:
            count_refusal(NO_TLS)
            client.close()
        finally:
            session.handshake_ended()

    def stop(self) -> None:
        """Accept no more sessions; those that are open go on."""
        if self._server is not None:
            self._server.close()
