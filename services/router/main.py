"""The router's wiring."""

from __future__ import annotations

from services.router.handling import Router
from shared.broker.interface import Broker
from shared.content.store import open_store
from shared.dns.resolver import DnspythonResolver
from shared.settings.model import Settings


def build(settings: Settings, broker: Broker) -> Router:
    """The service. Raises `ConfigError`."""
    store = open_store(settings.content_store)
    return Router(settings, broker, DnspythonResolver(settings.dns), store)
