"""How many processes, broker nodes and disks a load needs (pure): a model, with its sources.

What was measured is in `docs/benchmarks.md`; a test holds these constants to that page. What was
not is an assumption, marked so, and told with its reason in `docs/scaling.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

KB = 1000


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU milliseconds a message: of 4 KB, and for each further KB."""

    small: float
    per_kb: float

    def of(self, size: float) -> float:
        """For a message of that many octets."""
        return self.small + self.per_kb * max(0.0, size / KB - 4)


INGRESS = Cost(0.152, 0.0034)
"""Throughput on RabbitMQ: 4 KB and 100 KB, connections reused."""
INGRESS_CONNECTION = 0.10
"""More for a connection of its own (throughput: 0.248 - 0.152)."""
INGRESS_HANDSHAKE = 0.52
"""More for STARTTLS on it (acceptance alone: new with and without TLS)."""
ROUTER = Cost(0.101, 0.0003)
DELIVERY = Cost(0.154, 0.0041)
DELIVERY_CONNECTION = 0.31
"""More for a connection of its own (one service at a time)."""
DELIVERY_HANDSHAKE = 0.52
"""Assumption: the client's side of TLS costs what the server's does."""
BROKER = Cost(0.275, 0.0001)
"""One node, for one mail with one recipient: three queues on the way."""
RETRY_QUEUES = 3
"""A retry goes through its step, `due` and a lane."""
PASSAGES = 2
"""Queues that an undisturbed mail goes through: `accepted` and a lane."""

INLINE_MAX = 65_536
"""`content_store.inline_max_bytes`: above, only a name goes through the broker."""
ENVELOPE = 600
"""Octets of a message beside its content; assumption, for one recipient."""
WRITES = 2
"""RabbitMQ writes each message to the log of the node, and again to a segment of its queue."""
REPLICAS = 3
"""Members of a quorum queue."""
SEGMENTS = 1.5
"""Assumption: a file goes when its last message went. (Full and untouched: 1.0 on 3.10.8.)"""
MESSAGE_MEMORY = 50
"""Octets of a node's memory for a message that waits (41 on 3.10.8; `docs/scaling.md`)."""
NODE_MEMORY_GB = 4.0
"""Assumption: an idle node, its log tables (3 x 512 MB), and what a queue costs."""

UTILISATION = 0.6
"""A process busier than that answers late: what waits grows with 1 / (1 - utilisation)."""
NODE_CORES = 16
"""Assumption: larger nodes gain little, the log of a node is one process."""
NODE_WRITE_MB = 150.0
"""Assumption: MB a second that the one log of a node writes and syncs, on a good network disk."""
WORKER_CONNECTIONS = 2000
"""`delivery.max_connections`."""
LEAST = 2
"""Replicas of each service, so that one may be lost."""


@dataclass(frozen=True, slots=True)
class Load:
    """What comes. `jobs` a mail: recipients in different places. `retries`: a job, on average.

    `peak` is the busiest minute to the average one. The shares are of mails that bring a
    connection of their own, and of jobs that need one. `seconds` is how long a receiver takes for
    a transaction, `outage` for how many hours the broker must hold what cannot be sent.
    """

    per_hour: float
    size: float = 20 * KB
    peak: float = 3.0
    jobs: float = 1.0
    retries: float = 0.1
    fresh_in: float = 0.2
    fresh_out: float = 0.5
    seconds: float = 0.5
    outage: float = 4.0


@dataclass(frozen=True, slots=True)
class Need:
    """One service: cores at the peak, and replicas of one core each, one of them to spare."""

    cores: float
    replicas: int


@dataclass(frozen=True, slots=True)
class Size:
    """What that load needs. Rates are at the peak."""

    mails_per_second: float
    ingress: Need
    router: Need
    delivery: Need
    partitions: int
    connections: int
    clusters: int
    nodes: int
    cores_a_node: int
    memory_gb: int
    disk_gb: int
    write_mb_per_second: float
    network_mb_per_second: float


def size(load: Load) -> Size:
    """The arithmetic of `docs/scaling.md`."""
    rate = load.per_hour / 3600 * load.peak
    attempts = load.jobs * (1 + load.retries)
    connections = math.ceil(rate * attempts * load.seconds)
    delivery = _need(rate * attempts * _delivery_ms(load), connections / WORKER_CONNECTIONS)
    writes = rate * _written(load) / 1e6
    cores = rate * _broker_ms(load) / 1000 / UTILISATION
    clusters = max(1, math.ceil(max(cores / NODE_CORES, writes / NODE_WRITE_MB)))
    waiting = load.per_hour * load.outage * load.jobs / clusters
    return Size(
        mails_per_second=rate,
        ingress=_need(rate * _ingress_ms(load)),
        router=_need(rate * (1 + load.retries * load.jobs) * ROUTER.of(load.size)),
        delivery=delivery,
        partitions=_partitions(delivery.replicas),
        connections=connections,
        clusters=clusters,
        nodes=clusters * REPLICAS,
        cores_a_node=max(2, math.ceil(cores / clusters)),
        memory_gb=math.ceil(NODE_MEMORY_GB + waiting * MESSAGE_MEMORY / 1e9),
        disk_gb=math.ceil(10 + waiting * _body(load) * SEGMENTS / 1e9),
        write_mb_per_second=writes / clusters,
        network_mb_per_second=rate * load.size * (1 + attempts) / 1e6,
    )


def _need(milliseconds: float, at_least: float = 0.0) -> Need:
    """For that much CPU a second."""
    cores = milliseconds / 1000
    return Need(cores, max(LEAST, math.ceil(max(cores / UTILISATION, at_least)) + 1))


def _ingress_ms(load: Load) -> float:
    fresh = load.fresh_in * (INGRESS_CONNECTION + INGRESS_HANDSHAKE)
    return INGRESS.of(load.size) + fresh


def _delivery_ms(load: Load) -> float:
    fresh = load.fresh_out * (DELIVERY_CONNECTION + DELIVERY_HANDSHAKE)
    return DELIVERY.of(load.size) + fresh


def _passages(load: Load) -> float:
    """Messages that one mail makes in queues."""
    return 1 + load.jobs * (1 + load.retries * RETRY_QUEUES)


def _broker_ms(load: Load) -> float:
    """Of one node: each does the work of a replica of every queue."""
    return BROKER.of(min(load.size, INLINE_MAX)) * _passages(load) / PASSAGES


def _body(load: Load) -> float:
    return ENVELOPE + (load.size if load.size <= INLINE_MAX else 0)


def _written(load: Load) -> float:
    """Octets that one node writes for one mail."""
    return WRITES * _body(load) * _passages(load)


def _partitions(workers: int) -> int:
    """Enough that the share of no worker is much larger than that of another: a power of two."""
    return max(8, 1 << math.ceil(math.log2(4 * workers)))
