"""The content store on both kinds of storage: a folder, and a server that speaks S3."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from shared.content.durable import DurableWriter, fsync_path
from shared.content.interface import (
    ContentMissing,
    ContentStore,
    ContentUnavailable,
    blob_name,
)
from shared.content.store import AT_ONCE, open_store, read_cached
from shared.settings.load import ConfigError
from shared.settings.model import ContentStoreSettings

BLOB = blob_name("0ABCDEFGH")
UNSIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"
DATA = bytes(range(256)) * 512


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ContentStore:
    if request.param == "file":
        return open_store(ContentStoreSettings(url=f"file://{tmp_path}/content"))
    request.getfixturevalue("aws_keys")
    endpoint = request.getfixturevalue("s3_endpoint")
    bucket = Request(f"{endpoint}/mail", method="PUT", headers={"Authorization": UNSIGNED})
    with urlopen(bucket, timeout=10) as answer:
        assert answer.status == 200
    return open_store(ContentStoreSettings(url="s3://mail/contents", s3_endpoint=endpoint))


async def test_what_was_put_comes_back_byte_for_byte(store: ContentStore) -> None:
    await store.put(BLOB, DATA)
    assert bytes(await store.get(BLOB)) == DATA


async def test_a_second_put_of_a_name_replaces_the_first(store: ContentStore) -> None:
    await store.put(BLOB, b"first")
    await store.put(BLOB, DATA)
    assert bytes(await store.get(BLOB)) == DATA


async def test_a_missing_blob_is_its_own_error(store: ContentStore) -> None:
    with pytest.raises(ContentMissing):
        await store.get(blob_name("NOSUCHBLOB"))


async def test_the_only_job_ends_the_blob(store: ContentStore) -> None:
    await store.put(BLOB, DATA)
    await store.end_share(BLOB, Fraction(1), "job")
    with pytest.raises(ContentMissing):
        await store.get(BLOB)


async def test_a_blob_stays_until_every_share_has_ended(store: ContentStore) -> None:
    await store.put(BLOB, DATA)
    await store.end_share(BLOB, Fraction(1, 2), "first")
    await store.end_share(BLOB, Fraction(1, 2), "first")
    await store.end_share(BLOB, Fraction(1, 4), "second-a")
    assert bytes(await store.get(BLOB)) == DATA
    await store.end_share(BLOB, Fraction(1, 4), "second-b")
    with pytest.raises(ContentMissing):
        await store.get(BLOB)


async def test_the_last_two_shares_may_end_at_once(tmp_path: Path) -> None:
    root = tmp_path / "content"
    store = open_store(ContentStoreSettings(url=f"file://{root}"))
    names = [f"folder/{number}" for number in range(50)]
    await asyncio.gather(*(store.put(name, DATA) for name in names))
    half = Fraction(1, 2)
    await asyncio.gather(*(store.end_share(name, half, job) for name in names for job in "ab"))
    assert [path for path in root.rglob("*") if path.is_file()] == []


async def test_an_end_that_is_reported_again_after_the_blob_went_does_no_harm(
    store: ContentStore,
) -> None:
    await store.put(BLOB, DATA)
    for _ in range(2):
        await store.end_share(BLOB, Fraction(1), "job")
    with pytest.raises(ContentMissing):
        await store.get(BLOB)


async def test_many_puts_at_once_all_arrive(store: ContentStore) -> None:
    names = [blob_name(f"MAIL{number:04}") for number in range(100)]
    await asyncio.gather(*(store.put(name, name.encode()) for name in names))
    stored = [bytes(await store.get(name)) for name in names]
    assert stored == [name.encode() for name in names]


async def test_nothing_stays_in_the_folder_when_all_blobs_have_ended(tmp_path: Path) -> None:
    root = tmp_path / "content"
    store = open_store(ContentStoreSettings(url=f"file://{root}"))
    await store.put(BLOB, DATA)
    await store.end_share(BLOB, Fraction(1, 2), "a")
    await store.end_share(BLOB, Fraction(1, 2), "b")
    assert list(root.rglob("*")) == []


async def test_a_blob_that_cannot_be_removed_is_told(tmp_path: Path) -> None:
    store = open_store(ContentStoreSettings(url=f"file://{tmp_path}"))
    (tmp_path / "day" / "blob").mkdir(parents=True)
    with pytest.raises(ContentUnavailable):
        await store.end_share("day/blob", Fraction(1), "job")


async def test_a_folder_goes_with_its_last_blob_and_not_before(tmp_path: Path) -> None:
    store = open_store(ContentStoreSettings(url=f"file://{tmp_path}"))
    for name in ("day/one", "day/two"):
        await store.put(name, b"x")
    await store.end_share("day/one", Fraction(1), "job")
    assert [path.name for path in (tmp_path / "day").iterdir()] == ["two"]
    await store.end_share("day/two", Fraction(1), "job")
    assert list(tmp_path.iterdir()) == []


async def test_an_s3_server_that_is_gone_is_unavailable(aws_keys: None) -> None:
    settings = ContentStoreSettings(url="s3://mail", s3_endpoint="http://127.0.0.1:9")
    with pytest.raises(ContentUnavailable):
        await open_store(settings).put(BLOB, DATA)


async def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    root = tmp_path / "content"
    store = open_store(ContentStoreSettings(url=f"file://{root}"))
    (root / BLOB).parent.write_text("a file where the folder should be")
    with pytest.raises(ContentUnavailable):
        await store.put(BLOB, DATA)


def test_a_folder_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"content_store\.url"):
        open_store(ContentStoreSettings(url=f"file://{tmp_path}/file/below"))


async def test_a_put_returns_only_after_file_and_folders_are_synced(
    tmp_path: Path,
) -> None:
    synced: list[Path] = []

    def recording(path: Path) -> None:
        fsync_path(path)
        synced.append(path)

    writer = DurableWriter(tmp_path, recording)
    await writer.put("folder/blob", DATA)
    assert synced[0] == tmp_path / "folder/blob"
    assert set(synced[1:]) == {tmp_path / "folder", tmp_path}


async def test_what_could_not_be_written_whole_leaves_nothing(tmp_path: Path) -> None:
    writer = DurableWriter(tmp_path)
    (tmp_path / "folder/blob").mkdir(parents=True)
    with pytest.raises(OSError, match="folder/blob"):
        await writer.put("folder/blob", DATA)
    assert list((tmp_path / "folder").iterdir()) == [tmp_path / "folder/blob"]


def test_what_was_just_written_is_read_without_a_thread(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(DATA)
    assert read_cached(f"{tmp_path}/blob") in (None, DATA), "not every file system can say"
    assert read_cached(f"{tmp_path}/none") is None


@pytest.mark.parametrize("name", ["../secret", "x/../../secret", "./../secret"])
async def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    store = open_store(ContentStoreSettings(url=f"file://{tmp_path}/content"))
    await store.put("x/blob", DATA)
    (tmp_path / "secret").write_bytes(DATA)
    with pytest.raises(ContentMissing):
        await store.get(name)


async def test_what_does_not_lie_in_the_cache_is_read_all_the_same(tmp_path: Path) -> None:
    store = open_store(ContentStoreSettings(url=f"file://{tmp_path}"))
    large = DATA * (AT_ONCE // len(DATA) + 1)
    await store.put("large", large)
    await store.put("small", DATA)
    descriptor = os.open(tmp_path / "small", os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    assert bytes(await store.get("small")) == DATA
    assert bytes(await store.get("large")) == large


async def test_a_put_whose_sync_fails_raises(tmp_path: Path) -> None:
    def failing(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    writer = DurableWriter(tmp_path, failing)
    with pytest.raises(OSError, match="No space left"):
        await writer.put("folder/blob", DATA)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_a_put_that_nobody_waits_for_any_more_leaves_nothing(tmp_path: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    def stalled(path: Path) -> None:
        begun.set()
        go.wait()
        fsync_path(path)

    writer = DurableWriter(tmp_path, stalled)
    writing = asyncio.ensure_future(writer.put("folder/writing", DATA))
    await asyncio.to_thread(begun.wait)
    waiting = asyncio.ensure_future(writer.put("folder/waiting", DATA))
    await asyncio.sleep(0)
    for put in (writing, waiting):
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
    go.set()
    await writer.put("folder/next", DATA)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["next"]


async def test_a_thread_that_could_not_start_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    writer = DurableWriter(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            await writer.put("blob", DATA)
    async with asyncio.timeout(10):
        await writer.put("blob", DATA)


async def test_s3_is_asked_by_whom_the_configuration_names(aws_keys: None) -> None:
    asked = asyncio.get_running_loop().create_future()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if not asked.done():
            asked.set_result(head)
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = ContentStoreSettings(
            url="s3://mail/contents",
            s3_endpoint=f"http://127.0.0.1:{port}",
            s3_access_key_id="AKIAPOSTROAD",
            s3_secret_access_key=SecretStr("hunter2"),
        )
        with pytest.raises(ContentUnavailable):
            await open_store(settings).put(BLOB, b"x")

    assert "Credential=AKIAPOSTROAD/" in await asked
