"""How a connection to RabbitMQ is made.

Everything here blocks, for `CONNECT_SECONDS` or the patience of the options at most, and is
called on a thread.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kombu import Connection

from shared.broker.amqp.transport import BufferedTransport

CONNECT_SECONDS = 5.0
TCP_USER_TIMEOUT_MS = 30_000
"""py-amqp's own default of 1 s turns a second of packet loss into a lost link."""
SHORTEST_PATIENCE_SECONDS = 1.0
MEND_SECONDS = 1.0
"""How long a queue that is missing stays so before we declare it again.

RabbitMQ ends its consumers in that time. Where the queue is there again before they are told, they
seem to consume and are sent nothing, messages stay with them unseen (tried on 3.10.8).
"""


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """Where and how to connect. `heartbeat` is in seconds; an answer may take two of them.

    `ca_file` has who signs the broker's certificate, None: whom the system trusts.
    """

    url: str
    name: str
    heartbeat: float
    ca_file: Path | None = None

    @property
    def patience(self) -> float:
        """Seconds that the broker may take to answer, or to take what is written."""
        return max(2 * self.heartbeat, SHORTEST_PATIENCE_SECONDS)


def connect(
    options: LinkOptions,
    on_blocked: Callable[[str], None] | None = None,
    on_unblocked: Callable[[], None] | None = None,
) -> Any:
    """An open connection of py-amqp. Raises OSError and py-amqp's errors."""
    return Connection(
        options.url,
        ssl=_tls(options),
        transport=BufferedTransport,
        connect_timeout=CONNECT_SECONDS,
        heartbeat=options.heartbeat,
        transport_options={
            "on_blocked": on_blocked,
            "on_unblocked": on_unblocked,
            "client_properties": {"connection_name": options.name},
            "read_timeout": options.patience,
            "write_timeout": options.patience,
            "socket_settings": {socket.TCP_USER_TIMEOUT: TCP_USER_TIMEOUT_MS},
        },
    ).transport.establish_connection()


def _tls(options: LinkOptions) -> dict[str, str | None] | bool:
    parts = urlsplit(options.url)
    if parts.scheme != "amqps":
        return False
    authority = {"ca_certs": str(options.ca_file)} if options.ca_file else {}
    # Without a name py-amqp would accept the certificate of any host.
    return {"server_hostname": parts.hostname, **authority}
