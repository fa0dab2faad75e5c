from __future__ import annotations

from shared.settings.model import Settings
from shared.settings.public import public_settings


def test_defaults_are_not_shown() -> None:
    assert public_settings(Settings()) == {}


def test_what_differs_is_shown_as_it_is_written() -> None:
    changed = {"delivery": {"retry_schedule": ["90s"]}, "hostname": "mta.example"}

    assert public_settings(Settings.model_validate(changed)) == changed


def test_the_password_of_the_broker_is_not_shown() -> None:
    settings = Settings.model_validate({"broker": {"url": "amqp://user:hunter2@host//"}})

    assert public_settings(settings) == {"broker": {"url": "amqp://user:***@host//"}}
