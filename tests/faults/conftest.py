"""One rig a module and broker: services are killed and started again within it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.rabbitmq import ForeignServer, RabbitNode
from tests.support.rig import Rig, running_rig


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)]
)
def broker_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Queues of the module's own, on each broker in turn."""
    if request.param == "embedded":
        return f"embedded://{tmp_path_factory.mktemp('broker')}"
    server: RabbitNode | ForeignServer = request.getfixturevalue("rabbitmq")
    return server.new_vhost()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_rig(
    broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Rig]:
    async with running_rig(tmp_path_factory.mktemp("rig"), broker_url) as rig:
        yield rig


@pytest_asyncio.fixture(loop_scope="module")
async def rig(module_rig: Rig) -> Rig:
    """The module's rig, with a new ledger, well-behaved receivers and every service running."""
    await module_rig.renew()
    return module_rig
