"""The content store as the services see it: large contents, durable before they are named."""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol


class ContentUnavailable(Exception):  # noqa: N818
    """The store does not answer or cannot write: transient."""


class ContentMissing(Exception):  # noqa: N818
    """No such blob."""


class ContentStore(Protocol):
    """Blobs by name."""

    async def put(self, name: str, data: bytes) -> None:
        """Store; durable when it returns. Raises `ContentUnavailable`."""

    async def get(self, name: str) -> memoryview:
        """The whole blob. Raises `ContentMissing` or `ContentUnavailable`."""

    async def end_share(self, name: str, share: Fraction, job_id: str) -> None:
        """A job that held `share` of the blob has ended for good; idempotent by `job_id`.

        The blob goes when the ended shares add up to one. Raises `ContentUnavailable`.
        """


def blob_name(mail_id: str) -> str:
    """The name of a mail's blob, spread over folders by time: ids sort by time."""
    return f"{mail_id[:5]}/{mail_id}"
