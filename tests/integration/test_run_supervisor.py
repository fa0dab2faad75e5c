from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from services.supervisor import Child, Supervisor

WORKS = """
import signal, sys, pathlib
signal.signal(signal.SIGTERM, lambda *_: (print(NAME, file=open(FOLDER + "/stopped", "a")), sys.exit(CODE)))
with open(FOLDER + "/" + NAME, "a") as file:
    print(__import__("os").getpid(), file=file)
while True:
    signal.pause()
"""  # noqa: E501
IGNORES = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(FOLDER + "/" + NAME, "a").write("1\\n")
while True:
    signal.pause()
"""


def child(name: str, folder: Path, source: str = WORKS, code: int = 0) -> Child:
    head = f"NAME = {name!r}; FOLDER = {str(folder)!r}; CODE = {code}\n"
    return Child(name, (sys.executable, "-c", head + source), dict(os.environ))


async def lines_of(path: Path, count: int) -> list[str]:
    """Wait until a child has written so many lines."""
    async with asyncio.timeout(20):
        while True:
            lines = path.read_text().splitlines() if path.exists() else []
            if len(lines) >= count:
                return lines
            await asyncio.sleep(0.01)


def supervise(*children: Child, grace: float = 20.0) -> tuple[Supervisor, asyncio.Task[int]]:
    supervisor = Supervisor(children, grace, wait=lambda _lives: 0.01)
    return supervisor, asyncio.create_task(supervisor.run())


async def test_children_get_sigterm_and_their_good_end_is_exit_code_0(tmp_path: Path) -> None:
    supervisor, running = supervise(child("one", tmp_path), child("two", tmp_path))
    await lines_of(tmp_path / "one", 1)
    await lines_of(tmp_path / "two", 1)
    supervisor.stop()
    assert await running == 0
    assert sorted(await lines_of(tmp_path / "stopped", 2)) == ["one", "two"]


async def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    supervisor, running = supervise(child("one", tmp_path))
    (first,) = await lines_of(tmp_path / "one", 1)
    os.kill(int(first), signal.SIGKILL)
    pids = await lines_of(tmp_path / "one", 2)
    supervisor.stop()
    assert await running == 0
    assert pids[0] != pids[1]


async def test_a_child_that_ends_badly_after_sigterm_makes_it_exit_code_1(tmp_path: Path) -> None:
    supervisor, running = supervise(child("one", tmp_path), child("two", tmp_path, code=1))
    await lines_of(tmp_path / "one", 1)
    await lines_of(tmp_path / "two", 1)
    supervisor.stop()
    assert await running == 1


async def test_a_child_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    supervisor, running = supervise(child("one", tmp_path, IGNORES), grace=0.05)
    await lines_of(tmp_path / "one", 1)
    supervisor.stop()
    assert await running == 1


async def test_a_configuration_error_at_the_start_stops_all_with_exit_code_2(
    tmp_path: Path,
) -> None:
    wrong = child("wrong", tmp_path, "raise SystemExit(2)")
    _, running = supervise(child("one", tmp_path), wrong)
    async with asyncio.timeout(20):
        assert await running == 2


async def test_stopping_during_a_backoff_does_not_wait_for_it(tmp_path: Path) -> None:
    dies = child("dies", tmp_path, 'open(FOLDER + "/dies", "a").write("1\\n"); raise SystemExit(3)')
    supervisor = Supervisor([dies], 20.0, wait=lambda _lives: 3600.0)
    running = asyncio.create_task(supervisor.run())
    await lines_of(tmp_path / "dies", 1)
    supervisor.stop()
    async with asyncio.timeout(20):
        await running


async def test_children_of_a_supervisor_that_is_killed_drain_as_well(tmp_path: Path) -> None:
    one = child("one", tmp_path)
    source = (
        "import asyncio, sys; from services.supervisor import Child, Supervisor\n"
        "asyncio.run(Supervisor([Child('one', tuple(sys.argv[1:]), {})], 20.0).run())"
    )
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", source, *one.command)
    await lines_of(tmp_path / "one", 1)
    supervisor.kill()
    await supervisor.wait()
    assert await lines_of(tmp_path / "stopped", 1) == ["one"]
