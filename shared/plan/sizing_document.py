"""Writes the tables of `docs/scaling.md` from the model, so that page and model agree."""

from __future__ import annotations

import sys
from pathlib import Path

from shared.plan import sizing
from shared.plan.sizing import KB, Cost, Load, Need, Size, size

BEGIN = "<!-- begin model -->"
END = "<!-- end model -->"
EXAMPLES = (
    Load(100_000),
    Load(1_000_000),
    Load(1_000_000, size=100 * KB),
    Load(10_000_000),
    Load(10_000_000, retries=1.0),
    Load(50_000_000),
)


def render() -> str:
    """What belongs between the marks."""
    return "\n".join((BEGIN, "", *_costs(), "", *_more(), "", *_examples(), "", END))


def renew(page: str) -> str:
    """The page with its tables written anew. Raises ValueError if the marks are missing."""
    head, _, rest = page.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        raise ValueError(f"no {BEGIN} ... {END}")
    return head + render() + tail


def _costs() -> list[str]:
    services = {"ingress": sizing.INGRESS, "router": sizing.ROUTER, "delivery": sizing.DELIVERY}
    services["one RabbitMQ node"] = sizing.BROKER
    return [
        "| | CPU ms, 4 KB | each further KB | 4 KB a second and core | 20 KB | 100 KB |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_cost(name, cost) for name, cost in services.items()),
    ]


def _more() -> list[str]:
    return [
        "| more, in CPU ms | | source |",
        "| --- | --- | --- |",
        f"| a client's new connection | {sizing.INGRESS_CONNECTION:.2f} | throughput |",
        f"| STARTTLS on it | {sizing.INGRESS_HANDSHAKE:.2f} | acceptance alone |",
        f"| a new connection to a receiver | {sizing.DELIVERY_CONNECTION:.2f} "
        "| one service at a time |",
        f"| STARTTLS on it | {sizing.DELIVERY_HANDSHAKE:.2f} "
        "| assumption: as much as on the server's side |",
    ]


def _cost(name: str, cost: Cost) -> str:
    rates = " | ".join(f"{1000 / cost.of(octets):,.0f}" for octets in (4 * KB, 20 * KB, 100 * KB))
    return f"| {name} | {cost.small:.3f} | {cost.per_kb:.4f} | {rates} |"


def _examples() -> list[str]:
    return [
        "| mails an hour | of KB | retries a job | ingress | router | delivery | partitions "
        "| RabbitMQ | cores, memory, disk a node |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_example(load, size(load)) for load in EXAMPLES),
    ]


def _example(load: Load, needs: Size) -> str:
    services = (_replicas(need) for need in (needs.ingress, needs.router, needs.delivery))
    return (
        f"| {load.per_hour:,.0f} | {load.size / KB:.0f} | {load.retries} | {' | '.join(services)} "
        f"| {needs.partitions} | {needs.clusters} x {sizing.REPLICAS} nodes "
        f"| {needs.cores_a_node}, {needs.memory_gb} GB, {needs.disk_gb} GB |"
    )


def _replicas(need: Need) -> str:
    return f"{need.replicas} ({need.cores:.1f} cores)"


def summary(needs: Size) -> list[str]:
    """What `postroad size` prints."""
    return [
        f"at the peak: {needs.mails_per_second:,.0f} mails a second, "
        f"{needs.network_mb_per_second:,.1f} MB a second in and out",
        f"ingress:  {_replicas(needs.ingress)}",
        f"router:   {_replicas(needs.router)}",
        f"delivery: {_replicas(needs.delivery)}, {needs.partitions} partitions, "
        f"{needs.connections:,} connections to receivers at a time",
        f"RabbitMQ: {needs.clusters} cluster(s) of {sizing.REPLICAS} nodes, each node with "
        f"{needs.cores_a_node} cores, {needs.memory_gb} GB of memory, {needs.disk_gb} GB of disk "
        f"that syncs {needs.write_mb_per_second:,.1f} MB a second",
        "One core a replica, one replica to spare; docs/scaling.md tells what is assumed.",
    ]


def main(path: Path) -> None:
    """Write the tables of the page anew."""
    path.write_text(renew(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
