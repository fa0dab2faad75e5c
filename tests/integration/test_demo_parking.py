from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from services.demo.parking import read_parked
from shared.broker.connect import connect_broker
from shared.broker.interface import Outgoing
from shared.broker.topology import PARKED
from shared.messages.codec import encode
from shared.messages.model import AcceptedMail, Content, Recipient
from shared.settings.load import load_settings
from shared.settings.model import Settings
from tests.support.rabbitmq import ForeignServer, RabbitNode

MAIL = AcceptedMail("Q1", 1.0, "a@x.test", (Recipient("b@y.test"),), Content(0))


def settings_for(folder: Path, url: str) -> Settings:
    config = folder / "postroad.yaml"
    config.write_text(yaml.safe_dump({"broker": {"url": url}}))
    return load_settings(config)


async def check(settings: Settings) -> None:
    broker = connect_broker(settings, "test")
    await broker.start()
    await broker.wait_usable(20)
    for body in (encode(MAIL), b"not a message"):
        await broker.publish(Outgoing(PARKED, body, "id"))
    await broker.close()
    assert await read_parked(settings) == [MAIL]
    assert await read_parked(settings) == [MAIL]


async def test_the_parking_queue_is_read_and_left_as_it_is(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, f"embedded://{tmp_path}/broker")
    assert await read_parked(settings) == []
    await check(settings)


@pytest.mark.rabbitmq
async def test_the_parking_queue_of_rabbitmq_is_read_and_left_as_it_is(
    tmp_path: Path, rabbitmq: RabbitNode | ForeignServer
) -> None:
    await check(settings_for(tmp_path, rabbitmq.new_vhost()))
