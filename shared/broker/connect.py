"""Choose the broker that the configuration names."""

from __future__ import annotations

from urllib.parse import urlsplit

from shared.broker.interface import Broker
from shared.broker.topology import build_topology
from shared.settings.model import Settings


def connect_broker(settings: Settings, name: str) -> Broker:
    """A broker, not started yet; `name` tells the service in connection lists."""
    topology = build_topology(settings.delivery.retry_schedule)
    url = urlsplit(settings.broker.url)
    if url.scheme == "embedded":
        from shared.broker.embedded.broker import EmbeddedBroker  # noqa: PLC0415 - only one is used

        return EmbeddedBroker(url.path, topology)
    from shared.broker.amqp.broker import AmqpBroker  # noqa: PLC0415

    return AmqpBroker(settings.broker, topology, name)
