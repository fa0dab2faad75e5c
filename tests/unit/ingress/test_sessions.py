from __future__ import annotations

import asyncio

from services.ingress.sessions import Sessions


class Probe:
    """A session that notes what is asked of it and ends when told."""

    def __init__(self, sessions: Sessions) -> None:
        self.seen = 0.0
        self.busy = False
        self.timed_out = asyncio.Event()
        self.drained: list[bool] = []
        self._sessions = sessions

    def time_out(self) -> None:
        self.timed_out.set()

    def is_slow(self, now: float) -> bool:
        return False

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
