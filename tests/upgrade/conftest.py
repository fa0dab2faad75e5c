"""A virtual host of its own for each test, and a connection to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shared.broker.amqp.connection import LinkOptions, connect
from tests.support.rabbitmq import RabbitNode


@pytest.fixture
def url(rabbitmq_node: RabbitNode) -> str:
    return rabbitmq_node.new_vhost()


@pytest.fixture
def connection(url: str) -> Iterator[Any]:
    opened = connect(LinkOptions(url, "test", 60))
    yield opened
    opened.collect()
