"""The content store on obstore: `file://` on one machine, `s3://` in production.

obstore's local store writes and renames but never syncs, so a `file://` put goes through
`DurableWriter`, which syncs the file and its folders before it reports success. What lies in the
page cache is read without a thread. On S3 a returned put is durable. Library exceptions are
translated here and nowhere else.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from shared.content.durable import DurableWriter
from shared.content.interface import ContentMissing, ContentStore, ContentUnavailable
from shared.content.shares import all_ended, marker_name, marker_prefix
from shared.settings.load import ConfigError
from shared.settings.model import ContentStoreSettings

TIMEOUT = "30s"
AT_ONCE = 1_048_576
"""Octets that are copied on the event loop."""

_OURS = re.compile(r"\w+(?:/\w+)*", re.ASCII)
"""Names that lead nowhere but below the folder."""


def open_store(settings: ContentStoreSettings) -> ContentStore:
    """The store that the configuration names. Raises `ConfigError` if it cannot be opened."""
    url = urlsplit(settings.url)
    try:
        if url.scheme == "file":
            return FileContentStore(Path(url.path))
        return ObjectContentStore(_s3(settings, url.netloc, url.path.strip("/")))
    except (OSError, BaseError) as error:
        raise ConfigError(f"content_store.url: {settings.url}: {error}") from error


def _s3(settings: ContentStoreSettings, bucket: str, prefix: str) -> S3Store:
    options: dict[str, Any] = {"region": settings.s3_region}
    if settings.s3_endpoint:
        options["endpoint"] = settings.s3_endpoint
    if settings.s3_access_key_id:
        options["access_key_id"] = settings.s3_access_key_id
        options["secret_access_key"] = settings.s3_secret_access_key.get_secret_value()
    return S3Store(
        bucket,
        prefix=prefix or None,
        client_options={"timeout": TIMEOUT, "allow_http": True},
        retry_config={"max_retries": 3},
        **options,
    )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ValueError) as error:  # ValueError: a name that is none
        raise ContentMissing(str(error)) from error
    except (BaseError, OSError) as error:
        raise ContentUnavailable(str(error)) from error


def read_cached(path: str) -> bytearray | None:
    """A small file that lies in the page cache, as new mail does; never waits for the disk.

    None where it would, or there is none: a third of the time of a read through a thread.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        size = os.fstat(descriptor).st_size
        if not 0 < size <= AT_ONCE:
            return None
        data = bytearray(size)
        return data if os.preadv(descriptor, [data], 0, os.RWF_NOWAIT) == size else None
    except OSError:
        return None  # not in the cache, or a file system that cannot say
    finally:
        os.close(descriptor)


class ObjectContentStore:
    """Blobs in any store whose put is durable when it returns."""

    def __init__(self, store: S3Store | LocalStore) -> None:
        self._store = store

    async def put(self, name: str, data: bytes) -> None:
        """See `ContentStore.put`."""
        with _translated():
            await obstore.put_async(self._store, name, data)

    async def get(self, name: str) -> memoryview:
        """See `ContentStore.get`."""
        with _translated():
            result = await obstore.get_async(self._store, name)
            return memoryview(await result.bytes_async())

    async def end_share(self, name: str, share: Fraction, job_id: str) -> None:
        """See `ContentStore.end_share`."""
        with _translated():
            if share < 1:
                await obstore.put_async(self._store, marker_name(name, share, job_id), b"")
                markers = [marker async for marker in self._markers(name)]
                if not all_ended(markers):
                    return
                await self._delete(name)
                await self._delete_all(markers)
            else:
                await self._delete(name)

    async def _markers(self, name: str) -> AsyncIterator[str]:
        async for batch in obstore.list(self._store, prefix=marker_prefix(name)):
            for entry in batch:
                yield entry["path"]

    async def _delete_all(self, names: list[str]) -> None:
        try:
            await obstore.delete_async(self._store, names)
        except FileNotFoundError:
            for name in names:  # who ended the last share at the same time has begun with them
                await self._delete(name)

    async def _delete(self, name: str) -> None:
        try:
            await obstore.delete_async(self._store, name)
        except FileNotFoundError:
            return  # ended before: a job's end may be reported twice


class FileContentStore(ObjectContentStore):
    """Blobs in a folder of this machine, synced before a put returns."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        store = LocalStore(root, mkdir=True, automatic_cleanup=True)
        super().__init__(store)
        self._root = root
        self._writer = DurableWriter(root)

    async def put(self, name: str, data: bytes) -> None:
        """See `ContentStore.put`."""
        with _translated():
            await self._writer.put(name, data)

    async def get(self, name: str) -> memoryview:
        """See `ContentStore.get`."""
        # A queue message may have been made by hand: obstore judges any other name.
        cached = read_cached(f"{self._root}/{name}") if _OURS.fullmatch(name) else None
        return await super().get(name) if cached is None else memoryview(cached)

    async def _delete(self, name: str) -> None:
        # Not through obstore, which spends a third of a read on it.
        if _OURS.fullmatch(name):
            await self._writer.remove(name)
        else:
            await super()._delete(name)
