"""Where the queues lie during a benchmark: one file system for all systems, fair to each.

On ext4 without a journal (virtual machines have it) the kernel does not reuse an inode for minutes
after its file is gone, and looks through all of those for each new file. Postfix, with a file a
message, loses half its throughput to that within a few runs. So there the queues go to an ext4 of
their own, with a journal, in an image on the same disk.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IMAGE_BYTES = 24 << 30
"""Sparse: only what is written takes space. Three rounds of acceptance alone keep 9 GB of mail."""
WITHOUT_JOURNAL = "ext4 without a journal"


@contextmanager
def bench_folder(parent: Path) -> Iterator[tuple[Path, str]]:
    """An empty folder below `parent`, removed at the end, and what file system it is on."""
    with tempfile.TemporaryDirectory(prefix="postroad-bench-", dir=parent) as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postfix's unprivileged daemons walk through it
        kind = describe(folder)
        if kind != WITHOUT_JOURNAL:
            yield folder, kind
        elif not _mount_image(folder):
            yield folder, f"{kind}, which slows Postfix down; an image cannot be mounted here"
        else:
            try:
                yield folder / "mounted", f"ext4 with a journal, in an image on {kind}"
            finally:
                _run("umount", str(folder / "mounted"))


def describe(folder: Path) -> str:
    """The kind of file system that `folder` is on."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    kind = file_system(Path("/proc/self/mountinfo").read_text(), number)
    if kind != "ext4":
        return kind
    block_device = Path("/sys/dev/block", number).resolve().name
    journals = Path("/proc/fs/jbd2").glob(f"{block_device}-*")
    return "ext4 with a journal" if any(journals) else WITHOUT_JOURNAL


def file_system(mountinfo: str, number: str) -> str:
    """The type of the mounted device `major:minor`, from the text of /proc/PID/mountinfo."""
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == number:
            return source.split()[0]
    return "unknown"


def _mount_image(folder: Path) -> bool:
    image, mounted = folder / "image", folder / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    try:
        _run("mkfs.ext4", "-q", "-F", str(image))
        _run("mount", "-o", "loop", str(image), str(mounted))
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)
