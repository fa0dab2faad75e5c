"""The router's wiring."""

from __future__ import annotations

import gc

from services.router.handling import Router
from services.router.routing import own_names
from shared.broker.interface import Broker
from shared.content.store import open_store
from shared.dns.resolver import DnspythonResolver
from shared.settings.model import Settings


def build(settings: Settings, broker: Broker) -> Router:
    """The service. Raises `ConfigError`."""
    # Hundreds of mails are held at a time, so a young object is hardly ever garbage: the default
    # looks through them after every 35th mail, for a tenth of the router's time.
    gc.set_threshold(10_000, 20, 50)
    store = open_store(settings.content_store)
    resolver = DnspythonResolver(settings.dns, kept=own_names(settings))
    return Router(settings, broker, resolver, store)
