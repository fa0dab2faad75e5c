from __future__ import annotations

from pathlib import Path

from tests.bench.log_tail import LogTail

ROUTED = b'{"mail_id":"%b","event":"routed","level":"info"}\n'
OTHER = b'{"mail_id":"m1","event":"delivered","level":"info"}\n'


def test_lines_count_once_they_are_whole_and_of_the_event(tmp_path: Path) -> None:
    path = tmp_path / "router.log"
    tail = LogTail(path, "routed")
    assert tail.count() == 0, "nobody has written yet"
    line = ROUTED % b"m1"
    with path.open("ab", buffering=0) as log:
        log.write(OTHER + line + line[:20])
        assert (tail.count(), tail.count()) == (1, 1)
        log.write(line[20:-1])
        assert tail.count() == 1, "the line has not ended"
        log.write(b"\n" + OTHER)
        assert tail.count() == 2
    tail.close()


def test_ids_tell_which_mail_was_logged_twice(tmp_path: Path) -> None:
    path = tmp_path / "router.log"
    path.write_bytes(ROUTED % b"m1" + b"no JSON\n" + OTHER + ROUTED % b"m2" + ROUTED % b"m1")
    assert LogTail(path, "routed").ids() == {"m1": 2, "m2": 1}
