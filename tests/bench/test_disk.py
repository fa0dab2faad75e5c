from __future__ import annotations

from pathlib import Path

from tests.bench.disk import bench_folder, describe, file_system

MOUNTINFO = """\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
22 21 0:20 / /proc rw shared:5 master:2 - proc proc rw
23 21 7:0 / /mnt/a\\040folder rw - xfs /dev/loop0 rw
"""


def test_the_type_follows_the_optional_fields() -> None:
    assert file_system(MOUNTINFO, "254:0") == "ext4"
    assert file_system(MOUNTINFO, "0:20") == "proc"
    assert file_system(MOUNTINFO, "7:0") == "xfs"
    assert file_system(MOUNTINFO, "7:1") == "unknown"


def test_the_folder_is_usable_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with bench_folder(tmp_path) as (folder, kind):
        (folder / "queue").mkdir()
        assert describe(folder).split()[0] == kind.split()[0]
    assert list(tmp_path.iterdir()) == []
