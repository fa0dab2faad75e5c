from __future__ import annotations

import asyncio
from random import Random

from services.demo.client import Submission, submit_all
from services.demo.plan import SCRIPTS, Contents, Planned
from services.demo.reports import Arrived, Listening, Report, read_report
from services.demo.stack import receivers_process


async def test_the_receivers_process_reports_what_came_and_ends_with_its_input() -> None:
    contents = Contents(Random(1), "now")
    planned = Planned("run-1", ("later0@mixed.test", "user@mixed.test"), 3000)
    accepted: list[str] = []
    async with asyncio.timeout(30), receivers_process() as process:
        assert process.stdout is not None
        listening = read_report(await process.stdout.readline())
        assert isinstance(listening, Listening)
        assert listening.ports.keys() == SCRIPTS.keys()
        submission = Submission(
            listening.ports["mixed.test"],
            contents.build,
            lambda planned, _mail_id, _at, _latency: accepted.append(planned.demo_id),
            lambda _planned, reply: accepted.append(reply),
            pause=0.0,
        )
        await submit_all(submission, [planned])
        report: Report = read_report(await process.stdout.readline())
    assert accepted == ["run-1"]
    assert isinstance(report, Arrived)
    assert (report.demo_id, report.intact) == ("run-1", True)
    assert report.recipients == planned.recipients
    assert report.deferred == ("later0@mixed.test",)
    assert process.returncode == 0
