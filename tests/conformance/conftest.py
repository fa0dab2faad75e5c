"""Each test of the suite runs on both brokers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.broker.embedded.broker import EmbeddedBroker
from shared.broker.interface import Broker
from shared.broker.topology import Topology
from shared.settings.model import BrokerSettings
from tests.conformance.harness import Harness


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    opened = _rabbitmq(request) if request.param == "rabbitmq" else _embedded(tmp_path)
    yield opened
    await opened.close()


def _embedded(directory: Path) -> Harness:
    return Harness(lambda topology: EmbeddedBroker(str(directory), topology))


def _rabbitmq(request: pytest.FixtureRequest) -> Harness:
    from shared.broker.amqp.broker import AmqpBroker

    settings = BrokerSettings(url=request.getfixturevalue("rabbitmq").new_vhost())

    def create(topology: Topology) -> Broker:
        return AmqpBroker(settings, topology, "conformance")

    return Harness(create)


@pytest.fixture
async def broker(harness: Harness) -> Broker:
    return await harness.open()
