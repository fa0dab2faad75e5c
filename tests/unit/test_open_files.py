from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from shared.open_files import OTHERS, allow_connections


@pytest.fixture
def hard() -> Iterator[int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_limit_is_raised_to_what_is_needed(hard: int) -> None:
    allow_connections(500)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (500 + OTHERS, hard)
    allow_connections(10)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 500 + OTHERS


def test_no_more_is_taken_than_the_process_may_have(hard: int) -> None:
    allow_connections(hard)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
