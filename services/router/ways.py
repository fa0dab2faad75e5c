"""The way of every domain, and the site to which it leads (pure).

What DNS says is passed in. What follows from an answer is remembered as long as the answer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.router.routing import (
    Route,
    StaticRoutes,
    Way,
    literal_route,
    own_names,
    way_by_dns,
)
from shared.dns.answers import MxAnswer
from shared.plan.lanes import LanePlan
from shared.plan.sites import Sites
from shared.settings.model import Settings

CACHED_WAYS = 50_000


class Ways:
    """Ways under one configuration and its lanes."""

    def __init__(self, settings: Settings, lanes: LanePlan) -> None:
        self._routes = StaticRoutes(settings.router.routes)
        self._port = settings.delivery.smtp_port
        self._own = own_names(settings)
        self._sites = Sites(settings.providers)
        self._lanes = lanes
        self._fixed: dict[str, Route | None] = {}
        self._found: dict[str, tuple[MxAnswer, Way]] = {}

    def without_dns(self, domain: str) -> Route | None:
        """The static route of a domain, or the way to an address literal, or None: ask DNS."""
        try:
            return self._fixed[domain]
        except KeyError:
            route = self._routes.find(domain) or literal_route(domain)
            way = None if route is None else self._located(domain, route)
            _make_room(self._fixed)
            self._fixed[domain] = way
            return way

    def by_dns(self, domain: str, answer: MxAnswer) -> Way:
        """What an answer of the DNS means for mail to the domain."""
        known = self._found.get(domain)
        if known is not None and known[0] is answer:
            return known[1]
        way = way_by_dns(domain, answer, self._own)
        if isinstance(way, Route):
            way = self._located(domain, way)
        _make_room(self._found)
        self._found[domain] = answer, way
        return way

    def _located(self, domain: str, route: Route) -> Route:
        site = self._sites.of([exchanger.host for exchanger in route.exchangers])
        name = self._site_name(domain, route, site.name)
        most = self._lanes.limits(site.provider, name).recipients_per_transaction
        return replace(route, site=name, provider=site.provider, most=most)

    def _site_name(self, domain: str, route: Route, by_hosts: str) -> str:
        if domain in self._lanes.domains:
            return domain
        if route.static:
            # Always with a port: no name out of the DNS is the same, so no stranger's mail shares
            # a connection with a route into a private network.
            return ",".join(_place(each.host, each.port or self._port) for each in route.exchangers)
        name = route.site or by_hosts
        return f"{name}~" if name in self._lanes.domains else name


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host.lower()}:{port}"


def _make_room(cache: dict[str, Any]) -> None:
    if len(cache) >= CACHED_WAYS:
        cache.clear()
