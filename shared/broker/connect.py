"""Choose the broker that the configuration names."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from shared.broker.interface import Broker, EventLine
from shared.broker.migration import Migration
from shared.broker.topology import Topology, build_topology, entrance, outlook
from shared.settings.model import Settings


def connect_broker(settings: Settings, name: str, lanes: Collection[str] | None = None) -> Broker:
    """A broker, not started yet; `name` tells the service in connection lists.

    Only the queues that the service needs are declared, for declaring takes time: of lanes those
    of `lanes` (None: of all), and for ingress none.
    """
    guaranteed = bool(settings.events.guaranteed)
    topology = entrance(events=guaranteed) if name == "ingress" else topology_of(settings, lanes)
    return _connect(settings, topology, name)


def connect_reader(settings: Settings, name: str) -> Broker:
    """A broker for who reads guaranteed events, not started yet."""
    return _connect(settings, outlook(), name)


def connect_events(settings: Settings, name: str) -> EventLine:
    """What is told of the mail, without the queues."""
    return _connect(settings, Topology(()), name).events


def _connect(settings: Settings, topology: Topology, name: str) -> Broker:
    url = urlsplit(settings.broker.url)
    if url.scheme == "embedded":
        from shared.broker.embedded.broker import EmbeddedBroker  # noqa: PLC0415 - only one is used

        return EmbeddedBroker(url.path, topology)
    from shared.broker.amqp.broker import AmqpBroker  # noqa: PLC0415

    return AmqpBroker(settings.broker, topology, name)


def topology_of(settings: Settings, lanes: Collection[str] | None = None) -> Topology:
    """All queues of this configuration, of lanes those of `lanes` (None: of all)."""
    partitions = {
        lane.name: lane.partitions for lane in settings.lanes if lanes is None or lane.name in lanes
    }
    guaranteed = bool(settings.events.guaranteed)
    return build_topology(settings.delivery.retry_schedule, partitions, events=guaranteed)


def connect_migration(settings: Settings) -> Migration | None:
    """Whoever exchanges queues; None where none has arguments, on the embedded broker."""
    if urlsplit(settings.broker.url).scheme == "embedded":
        return None
    from shared.broker.amqp.migrating import AmqpMigration  # noqa: PLC0415

    return AmqpMigration(settings.broker, topology_of(settings))
