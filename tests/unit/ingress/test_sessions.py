from __future__ import annotations

import asyncio

from services.ingress.sessions import Sessions
from shared.smtp.server_replies import IDLE_TOO_LONG, TOO_SLOW, ServerReply


class Probe:
    """A session that notes what is asked of it and ends when told."""

    def __init__(self, sessions: Sessions) -> None:
        self.seen = 0.0
        self.busy = False
        self.late: ServerReply | None = None
        self.told: ServerReply | None = None
        self.was_shed = False
        self.timed_out = asyncio.Event()
        self.drained: list[bool] = []
        self._sessions = sessions

    def time_out(self, reply: ServerReply) -> None:
        self.told = reply
        self.timed_out.set()

    def overdue(self, now: float) -> ServerReply | None:
        return self.late

    def shed(self) -> bool:
        self.was_shed = not self.busy
        return self.was_shed

    def drain(self, patience_over: bool) -> None:
        self.drained.append(patience_over)
        if patience_over or not self.busy:
            self._sessions.remove(self)


async def test_sessions_are_counted_up_to_the_limit() -> None:
    sessions = Sessions(limit=2, timeout=60)
    first, second, third = (Probe(sessions) for _ in range(3))
    assert sessions.add(first)
    assert sessions.add(second)
    assert not sessions.add(third)
    sessions.remove(third)
    sessions.remove(first)
    sessions.remove(first)
    assert len(sessions) == 1
    assert sessions.add(third)


def strangers(sessions: Sessions, *seen: float) -> list[Probe]:
    probes = [Probe(sessions) for _ in seen]
    for probe, when in zip(probes, seen, strict=True):
        assert sessions.add(probe, stranger=True)
        probe.seen = when
    return probes


async def test_strangers_leave_the_reserve_to_others() -> None:
    sessions = Sessions(limit=5, timeout=60, reserved=2)
    crowd = strangers(sessions, 1.0, 1.0, 1.0)
    assert sessions.add(Probe(sessions), stranger=True)
    assert [probe.was_shed for probe in crowd] == [True, False, False]
    assert sessions.add(Probe(sessions), stranger=True, known=True)
    assert sessions.add(Probe(sessions))
    assert [probe.was_shed for probe in crowd] == [True, False, False]
    assert len(sessions) == 5


async def test_the_stranger_that_is_idle_for_longest_makes_room() -> None:
    sessions = Sessions(limit=4, timeout=60)
    first, second, third, fourth = strangers(sessions, 3.0, 1.0, 4.0, 2.0)
    assert sessions.add(Probe(sessions))
    assert second.was_shed
    fourth.seen = 5.0  # has spoken meanwhile
    sessions.remove(first)  # has left
    assert sessions.add(Probe(sessions))
    assert not third.was_shed
    assert sessions.add(Probe(sessions))
    assert (first.was_shed, third.was_shed, fourth.was_shed) == (False, True, False)
    sessions.trust(fourth)  # has logged in
    assert not sessions.add(Probe(sessions))
    assert not fourth.was_shed


async def test_who_is_owed_a_reply_is_not_shed_and_counts_on() -> None:
    sessions = Sessions(limit=2, timeout=60)
    storing, idle = strangers(sessions, 1.0, 2.0)
    storing.busy = True
    assert sessions.add(Probe(sessions))
    assert (storing.was_shed, idle.was_shed) == (False, True)
    assert not sessions.add(Probe(sessions)), "nobody is left who could make room"
    assert len(sessions) == 2
    drained = asyncio.create_task(sessions.drain(0.01))
    await asyncio.wait_for(drained, 10)
    assert storing.drained


async def test_connections_that_are_no_sessions_yet_count() -> None:
    sessions = Sessions(limit=2, timeout=60)
    assert sessions.wait()
    assert sessions.add(Probe(sessions))
    assert not sessions.wait()
    assert not sessions.add(Probe(sessions))
    sessions.waited()
    assert sessions.add(Probe(sessions))


async def test_who_is_slow_is_told_so_and_who_is_idle_too() -> None:
    sessions = Sessions(limit=10, timeout=0.1)
    idle, slow = Probe(sessions), Probe(sessions)
    slow.late = TOO_SLOW
    sessions.start()
    for each in (idle, slow):
        sessions.add(each)
        await asyncio.wait_for(each.timed_out.wait(), 5)
    sessions.stop()
    assert (idle.told, slow.told) == (IDLE_TOO_LONG, TOO_SLOW)


async def test_an_idle_session_is_timed_out_and_an_active_one_is_not() -> None:
    sessions = Sessions(limit=10, timeout=0.1)
    idle, active = Probe(sessions), Probe(sessions)
    sessions.start()
    sessions.add(idle)
    sessions.add(active)

    async def be_active() -> None:
        while True:
            active.seen = sessions.now
            await asyncio.sleep(0.005)

    task = asyncio.create_task(be_active())
    await asyncio.wait_for(idle.timed_out.wait(), 5)
    task.cancel()
    sessions.stop()
    assert not active.timed_out.is_set()


async def test_nobody_is_ended_early() -> None:
    sessions = Sessions(limit=10, timeout=0.2)
    loop = asyncio.get_running_loop()
    sessions.start()
    session = Probe(sessions)
    begun = loop.time()
    sessions.add(session)
    await asyncio.wait_for(session.timed_out.wait(), 5)
    sessions.stop()
    assert loop.time() - begun >= 0.2


async def test_a_drain_asks_all_and_waits_for_the_busy_ones() -> None:
    sessions = Sessions(limit=10, timeout=60)
    idle, busy = Probe(sessions), Probe(sessions)
    busy.busy = True
    sessions.add(idle)
    sessions.add(busy)
    drain = asyncio.create_task(sessions.drain(patience=60))
    await asyncio.sleep(0)
    assert (idle.drained, busy.drained) == ([False], [False])
    assert sessions.draining
    assert not drain.done()
    sessions.remove(busy)
    await asyncio.wait_for(drain, 5)


async def test_a_drain_loses_its_patience() -> None:
    sessions = Sessions(limit=10, timeout=60)
    busy = Probe(sessions)
    busy.busy = True
    sessions.add(busy)
    await asyncio.wait_for(sessions.drain(patience=0.01), 5)
    assert busy.drained == [False, True]


async def test_a_drain_without_sessions_ends_at_once() -> None:
    await asyncio.wait_for(Sessions(limit=1, timeout=60).drain(patience=60), 5)
