"""`postroad queues`: which queues are not as this configuration wants them; and mends them."""

from __future__ import annotations

from collections.abc import Sequence

from shared.broker.connect import connect_migration
from shared.broker.migration import Finding, Migration, MigrationError, Say
from shared.settings.model import Settings

RUN = "run `postroad queues --migrate`: services may run, and pause meanwhile"


def run_queues(settings: Settings, say: Say, *, migrate: bool) -> int:
    """The exit code: 0 when all is as it should be, 1 when it is not."""
    migration = connect_migration(settings)
    if migration is None:
        say("queues of the embedded broker have no arguments: there is nothing to migrate")
        return 0
    try:
        return _mend(migration, say) if migrate else _show(migration.look(), say)
    except MigrationError as error:
        say(f"not finished, and nothing is lost: {error}")
        return 1


def _mend(migration: Migration, say: Say) -> int:
    if not migration.look():
        return _show((), say)
    migration.migrate(say)
    return _show(migration.look(), say)


def _show(findings: Sequence[Finding], say: Say) -> int:
    for finding in findings:
        for difference in finding.differences:
            say(f"{difference} ({'used as it is' if difference.harmless else 'cannot be used'})")
        if finding.unfinished:
            say(f"{finding.queue.name}: a migration was begun and is not finished")
    say(RUN if findings else "all queues are as this configuration wants them")
    return 1 if findings else 0
