"""Which jobs belong in which queues of a worker."""

from __future__ import annotations

from typing import Any

import pytest

from services.delivery.holding import Partition
from services.delivery.placing import Placing, queues_of
from shared.broker.topology import lane_queue
from shared.messages.model import Content, DeliveryJob
from shared.settings.model import Settings

PLACING = Placing(Settings.model_validate({"lanes": [{"name": "default", "partitions": 2}]}))


def job(**changes: Any) -> DeliveryJob:
    fields = {"destination": "d.test", "site": "mx.test"} | changes
    return DeliveryJob("job", "m", 1.0, "", (), Content(0), exchangers=(), **fields)


def queue(number: int, kind: str = "transactional", *, again: bool = False) -> str:
    return lane_queue("default", number, kind, again=again)


@pytest.mark.parametrize("attempt", [0, 1])
def test_a_job_belongs_in_either_queue_of_its_partition_and_class(attempt: int) -> None:
    """Releases without queues for jobs that come again put them in the other one."""
    one = job(attempt=attempt)
    (number,) = [n for n in (0, 1) if PLACING.belongs(one, queue(n))]
    assert PLACING.belongs(one, queue(number, again=True))
    assert not PLACING.belongs(one, queue(1 - number, again=True))
    assert not PLACING.belongs(one, queue(number, "bulk"))


def test_all_queues_of_a_partition_are_known_as_its_own() -> None:
    for again in (False, True):
        for name in queues_of(Partition("default", 1), again=again):
            assert PLACING.partition(name) == Partition("default", 1)
            assert PLACING.is_again(name) is again
    assert PLACING.partitions() == [Partition("default", 0), Partition("default", 1)]
