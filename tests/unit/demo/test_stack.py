from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from services.demo.stack import broker_name, configuration, free_ports
from shared.settings.load import load_settings
from shared.settings.model import Settings


def settings_of(tmp_path: Path, broker: str | None) -> Settings:
    config = tmp_path / "postroad.yaml"
    values = configuration(tmp_path, broker, {"a.test": 2501, "b.test": 2502}, [1, 2, 3, 4])
    config.write_text(yaml.safe_dump(values))
    return load_settings(config)


def test_the_configuration_is_one_that_the_services_read(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, None)
    assert settings.broker.url == f"embedded://{tmp_path}/broker"
    assert settings.content_store.url == f"file://{tmp_path}/content"
    assert settings.ingress.listeners[0].port == 1
    assert (settings.admin.ingress_port, settings.admin.delivery_port) == (2, 4)
    assert [route.hosts for route in settings.router.routes] == [
        ("127.0.0.1:2501",),
        ("127.0.0.1:2502",),
    ]
    assert settings.delivery.retry_schedule == (1000, 2000, 5000)


def test_a_given_broker_is_used(tmp_path: Path) -> None:
    assert settings_of(tmp_path, "amqp://h:5//").broker.url == "amqp://h:5//"


def test_free_ports_differ() -> None:
    assert len(set(free_ports(4))) == 4


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (None, "on the embedded broker"),
        ("amqp://user:secret@host:5672//", "on amqp://host:5672//"),
    ],
)
def test_the_broker_is_named_without_its_password(url: str | None, name: str) -> None:
    assert broker_name(url) == name
