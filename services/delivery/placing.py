"""Which jobs belong here under the present plan, and which limits their sites have (pure)."""

from __future__ import annotations

from collections.abc import Collection

from services.delivery.holding import Partition
from shared.broker.topology import lane_queue
from shared.messages.model import DeliveryJob, MessageClass
from shared.plan.lanes import LanePlan
from shared.plan.limits import Limits, LimitTable
from shared.settings.model import Settings
from shared.settings.shaping import LaneSettings, LimitsSettings


class Placing:
    """The plan of one worker that serves `lanes` (None: all). Limits can be renewed."""

    def __init__(self, settings: Settings, lanes: Collection[str] | None = None) -> None:
        self._all = settings.lanes
        self.lanes: list[LaneSettings] = [
            lane for lane in settings.lanes if lanes is None or lane.name in lanes
        ]
        self._partitions = {
            queue: Partition(lane.name, number)
            for lane in self.lanes
            for number in range(lane.partitions)
            for again in (False, True)
            for queue in queues_of(Partition(lane.name, number), again=again)
        }
        self._again = frozenset(
            queue for partition in self.partitions() for queue in queues_of(partition, again=True)
        )
        self.set_limits(settings.limits)

    def set_limits(self, limits: LimitsSettings) -> None:
        """Plan anew with these limits."""
        self._plan = LanePlan(self._all, LimitTable(limits))

    def partitions(self) -> list[Partition]:
        """All partitions of the lanes that are served."""
        return list(dict.fromkeys(self._partitions.values()))

    def partition(self, queue: str) -> Partition:
        """The partition that a queue belongs to."""
        return self._partitions[queue]

    def is_again(self, queue: str) -> bool:
        """Whether the queue is one for jobs that come again."""
        return queue in self._again

    def belongs(self, job: DeliveryJob, queue: str) -> bool:
        """Whether the job is in the right partition and class of the present plan."""
        if not job.site or (job.destination in self._plan.domains and job.destination != job.site):
            return False
        place = self._plan.place(job)
        return queue in (place.queue, place.beside)

    def limits_of(self, job: DeliveryJob) -> Limits:
        """What its site may be sent from the job's partition."""
        place = self._plan.place(job)
        return self._plan.limits_of(job).part(place.part, place.parts)


def queues_of(partition: Partition, *, again: bool) -> list[str]:
    """One a class: of jobs that come `again`, or for the first time."""
    lane, number = partition
    return [lane_queue(lane, number, kind.value, again=again) for kind in MessageClass]
