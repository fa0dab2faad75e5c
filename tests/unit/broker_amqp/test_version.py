"""What depends on the version of RabbitMQ."""

from __future__ import annotations

import pytest

from shared.broker.amqp.version import may_forget_retries, parse_version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("3.10.8", (3, 10, 8)),
        ("4.1.0-rc.2", (4, 1, 0)),
        ("3.13.0+12.g1234", (3, 13)),
        ("4.0", (4, 0)),
        ("unknown", ()),
    ],
)
def test_the_numbers_in_front_are_the_version(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("text", "may"),
    [
        ("3.10.8", True),
        ("3.10.19", True),
        ("3.10.20", False),
        ("3.10.25", False),
        ("3.11.0", True),
        ("3.11.11", True),
        ("3.11.12", False),
        ("3.12.0", False),
        ("4.2.4", False),
        ("unknown", False),
    ],
)
def test_which_versions_may_stop_retries(text: str, may: bool) -> None:
    assert may_forget_retries(parse_version(text)) is may
