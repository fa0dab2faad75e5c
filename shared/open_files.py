"""Open files: each connection is one, and the usual limit is smaller than what we permit."""

from __future__ import annotations

import resource

from shared.logs import get_logger

OTHERS = 256
"""Files for everything but connections: queues, contents, logs, metrics."""


def allow_connections(connections: int) -> None:
    """Raise this process's own limit as far as it may and has to; a warning if that is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + OTHERS
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        get_logger().warning("too few open files allowed", allowed=allowed, needed=needed)
