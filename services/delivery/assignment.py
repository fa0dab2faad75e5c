"""Which worker serves which partition (pure): balanced, and nothing moves that need not.

Every worker computes the same from what it has heard. Rendezvous hashing decides between workers
that have an equal right, so the order in which anything is given does not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping

from services.delivery.holding import Partition


def settle(
    claims: Mapping[str, Iterable[Partition]], weak: Collection[str] = ()
) -> dict[Partition, str]:
    """The one whose claim counts, for each claimed partition.

    A claim of a worker in `weak` gives way to any other.
    """
    holders: dict[Partition, str] = {}
    for worker, partitions in claims.items():
        for partition in partitions:
            rival = holders.setdefault(partition, worker)
            if rival != worker:
                right = (worker not in weak, *_score(partition, worker))
                if right > (rival not in weak, *_score(partition, rival)):
                    holders[partition] = worker
    return holders


def assign(
    partitions: Collection[Partition], workers: Collection[str], holders: Mapping[Partition, str]
) -> dict[Partition, str]:
    """The worker of each partition of one lane; nothing if there are no workers.

    Each worker gets as many as any other, or one more. Of what `holders` have, as much stays as
    that allows.
    """
    if not workers:
        return {}
    held: dict[str, list[Partition]] = {worker: [] for worker in workers}
    for partition in partitions:
        if holders.get(partition) in held:
            held[holders[partition]].append(partition)
    room = _quotas(partitions, held)
    target: dict[Partition, str] = {}
    for worker, mine in held.items():
        mine.sort(key=lambda partition: _score(partition, worker), reverse=True)
        kept = mine[: room[worker]]
        target |= dict.fromkeys(kept, worker)
        room[worker] -= len(kept)
    for partition in sorted(set(partitions) - target.keys()):
        open_ones = (worker for worker in workers if room[worker])
        chosen = max(open_ones, key=lambda worker: _score(partition, worker))
        target[partition] = chosen
        room[chosen] -= 1
    return target


def _quotas(
    partitions: Collection[Partition], held: Mapping[str, Collection[Partition]]
) -> dict[str, int]:
    """How many each may have. Those that hold more than the least may come first to one more."""
    least, over = divmod(len(partitions), len(held))
    lane = Partition(min((p.lane for p in partitions), default=""), -1)
    ranked = sorted(
        held, key=lambda worker: (len(held[worker]) > least, *_score(lane, worker)), reverse=True
    )
    return {worker: least + (rank < over) for rank, worker in enumerate(ranked)}


def _score(partition: Partition, worker: str) -> tuple[bytes, str]:
    seed = f"{partition.lane}\n{partition.number}\n{worker}".encode()
    return hashlib.blake2b(seed, digest_size=8).digest(), worker
