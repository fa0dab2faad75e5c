"""What deploy/compose.yaml starts beside our services, in a play: name server, broker, store.

RabbitMQ is Debian's, with the compose file's configuration, plugins and credentials; a server that
speaks S3 stands for MinIO, and the demo's receiver for Mailpit.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from moto.server import ThreadedMotoServer

from services.demo.receiver import Receiver
from tests.support.compose import mounts
from tests.support.dns_authority import DnsAuthority
from tests.support.play import ask
from tests.support.rabbitmq import RabbitNode

NAMES = ("rabbitmq", "minio", "receiver", "prometheus", "ingress", "router", "delivery")
AMQP_PORT, S3_PORT, SMTP_PORT, DNS_PORT = 5672, 9000, 1025, 53
BUCKET = f"http://127.0.0.1:{S3_PORT}/postroad"


@contextlib.contextmanager
def rabbitmq() -> Iterator[RabbitNode]:
    """Debian's RabbitMQ with the configuration, plugins and credentials of the compose file."""
    node = RabbitNode()
    found = {mount.target: mount.source for mount in mounts("rabbitmq") if not mount.volume}
    parts = node.home / "conf.d"
    parts.mkdir()
    for target, source in found.items():
        if "/conf.d/" in target:
            (parts / Path(target).name).write_text(source.read_text("utf-8"))
    node.port = AMQP_PORT
    node.environment |= {
        "RABBITMQ_NODE_PORT": str(AMQP_PORT),
        "RABBITMQ_CONFIG_FILE": str(found["/etc/rabbitmq/rabbitmq.conf"]),
        "RABBITMQ_CONFIG_FILES": str(parts),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(found["/etc/rabbitmq/enabled_plugins"]),
    }
    try:
        node.start()
        yield node
    finally:
        node.remove()


@contextlib.asynccontextmanager
async def surroundings() -> AsyncIterator[Receiver]:
    """The name server, the store with its bucket, and the receiver."""
    zone = {(f"{name}.", "A"): ["127.0.0.1"] for name in NAMES}
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: DnsAuthority(zone), local_addr=("127.0.0.1", DNS_PORT)
    )
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=S3_PORT, verbose=False)
    store.start()
    try:
        await asyncio.to_thread(ask, BUCKET, "PUT")
        async with Receiver(port=SMTP_PORT) as receiver:
            yield receiver
    finally:
        store.stop()
        transport.close()
