"""The router's wiring."""

from __future__ import annotations

from services.router.handling import Router
from services.router.routing import own_names
from shared.broker.interface import Broker
from shared.content.store import open_store
from shared.dns.resolver import DnspythonResolver
from shared.settings.model import Settings
from shared.tracing.tracer import open_tracer


def build(settings: Settings, broker: Broker) -> Router:
    """The service. Raises `ConfigError`."""
    store = open_store(settings.content_store)
    resolver = DnspythonResolver(settings.dns, kept=own_names(settings))
    tracer = open_tracer(settings.tracing, Router.name)
    return Router(settings, broker, resolver, store, tracer=tracer)
