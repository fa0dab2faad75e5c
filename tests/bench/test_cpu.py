from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.bench.cpu import parse_stat, resident_bytes, tree_seconds

BURN = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


def test_a_name_with_brackets_and_spaces_does_not_shift_the_fields() -> None:
    line = "12 (a ) (b) S 7 12 12 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 99 0 0"
    assert parse_stat(line) == (7, 127)


def test_the_kernel_writes_what_the_parser_reads() -> None:
    assert parse_stat(Path("/proc/self/stat").read_text())[0] == os.getppid()


def test_children_that_have_ended_are_counted_by_their_parent() -> None:
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '''{BURN}''']); "
    script += "print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert tree_seconds([parent.pid]) >= 0.3
        assert resident_bytes(parent.pid) > 1 << 20
        parent.communicate()
    assert tree_seconds([parent.pid]) == 0.0
