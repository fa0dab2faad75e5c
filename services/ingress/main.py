"""Wiring of the ingress service: settings to objects, start, ready, drain. No logic."""

from __future__ import annotations

import time

from services.ingress.acceptance import Acceptance
from services.ingress.authentication import Authentication
from services.ingress.authenticator import Authenticator
from services.ingress.context import Context
from services.ingress.credentials import load_credentials
from services.ingress.crowding import Crowd, CrowdLimits
from services.ingress.listener import Listener, bind_all
from services.ingress.oauth import TokenVerifier, load_keys
from services.ingress.overload import LoadLimits, Overload
from services.ingress.patience import PatienceLimits
from services.ingress.policy import listener_rules
from services.ingress.renewal import watch_certificate, watch_credentials, watch_keys
from services.ingress.senders import Quotas
from services.ingress.sessions import Sessions
from services.ingress.throttle import Throttle
from services.ingress.tls import server_context
from shared.broker.interface import Broker
from shared.content.interface import ContentStore
from shared.content.store import open_store
from shared.events.emitter import Emitter
from shared.file_watch import FileWatch
from shared.open_files import allow_connections
from shared.settings.accepting import IngressSettings, OauthSettings
from shared.settings.model import Settings
from shared.tracing.tracer import Tracer, open_tracer

PATIENCE = 0.6
"""The part of the grace that open transactions get at a drain; storing needs the rest."""


class Ingress:
    """The service; see `shared.service.Service`. `addresses` are those it listens on."""

    name = "ingress"
    live_keys = frozenset(
        f"ingress.{key}"
        for key in (
            "max_connections",
            "reserved_connections",
            "command_timeout",
            "max_connections_per_address",
            "max_connections_per_network",
            "connections_per_minute",
            "max_loop_lag",
            "max_memory_bytes",
        )
    )

    def __init__(
        self, settings: Settings, broker: Broker, store: ContentStore, tracer: Tracer | None = None
    ) -> None:
        ingress = settings.ingress
        self._settings = settings
        self.addresses: list[tuple[str, int]] = []
        self._sessions = Sessions(*_session_limits(ingress))
        self._emitter = Emitter(settings.events, broker.events)
        self._tracer = tracer
        self._acceptance = Acceptance(
            broker,
            store,
            settings.content_store.inline_max_bytes,
            emitter=self._emitter,
            tracer=tracer,
            trusted_tenants=settings.tracing.trusted_tenants,
        )
        self._authentication = None
        self._watches: list[FileWatch] = []
        if path := ingress.credentials_file:
            users = load_credentials(path)
            tokens = self._tokens(ingress.oauth) if ingress.oauth else None
            self._authentication = Authentication(Authenticator(users), Throttle(), tokens)
            self._watches.append(watch_credentials(path, users, self._authentication.renew))
        quotas = Quotas(time.monotonic)
        self._crowd = Crowd(_crowd_limits(ingress))
        self._overload = Overload(_load_limits(ingress))
        patience = PatienceLimits(ingress.transaction_timeout / 1000, ingress.min_data_rate)
        tls = None
        if ingress.tls:
            tls = server_context(ingress.tls)
            self._watches.append(watch_certificate(ingress.tls, tls))
        self._listeners = [
            Listener(
                number,
                listener,
                Context(
                    listener_rules(settings, listener),
                    self._sessions,
                    self._acceptance,
                    quotas,
                    self._crowd,
                    self._overload,
                    patience,
                    self._authentication,
                    tls,
                ),
            )
            for number, listener in enumerate(ingress.listeners)
        ]

    def _tokens(self, settings: OauthSettings) -> TokenVerifier:
        tokens = TokenVerifier(settings, load_keys(settings.jwks_file))
        self._watches.append(watch_keys(settings.jwks_file, tokens.renew))
        return tokens

    async def start(self) -> None:
        """Bind every address, then accept. Raises `ConfigError` for one that cannot be had."""
        ingress = self._settings.ingress
        sockets = bind_all(ingress.listeners, shared=ingress.share_ports)
        allow_connections(self._settings.ingress.max_connections)
        self._emitter.start()
        self._sessions.start()
        self._overload.start()
        for watch in self._watches:
            watch.start()
        for listener, sock in zip(self._listeners, sockets, strict=True):
            self.addresses.append(await listener.start(sock))

    def look_again(self) -> None:
        """Read credentials, certificate and keys although they look the same."""
        for watch in self._watches:
            watch.look_now()

    def take_up(self, settings: Settings) -> None:
        """See `shared.settings.reload.Live`. Open sessions stay."""
        ingress = settings.ingress
        allow_connections(ingress.max_connections)
        self._sessions.set_limits(*_session_limits(ingress))
        self._crowd.set_limits(_crowd_limits(ingress))
        self._overload.set_limits(_load_limits(ingress))

    def ready(self) -> str:
        """Whether sessions are welcome."""
        return "" if self.addresses else "not listening"

    async def drain(self) -> None:
        """Accept no session, let open ones finish their transaction, wait for what is stored."""
        for listener in self._listeners:
            listener.stop()
        for watch in self._watches:
            await watch.stop()
        await self._sessions.drain(PATIENCE * self._settings.shutdown_grace / 1000)
        await self._acceptance.wait_idle()
        await self._emitter.stop()
        self._sessions.stop()
        self._overload.stop()
        if self._authentication is not None:
            self._authentication.close()
        if self._tracer is not None:
            await self._tracer.close()


def _session_limits(ingress: IngressSettings) -> tuple[int, float, int]:
    reserved = ingress.max_connections * ingress.reserved_connections // 100
    return ingress.max_connections, ingress.command_timeout / 1000, reserved


def _crowd_limits(ingress: IngressSettings) -> CrowdLimits:
    return CrowdLimits(
        ingress.max_connections_per_address,
        ingress.max_connections_per_network,
        ingress.connections_per_minute,
    )


def _load_limits(ingress: IngressSettings) -> LoadLimits:
    return LoadLimits(ingress.max_loop_lag / 1000, ingress.max_memory_bytes)


def build(settings: Settings, broker: Broker) -> Ingress:
    """The service, not listening yet. Raises `ConfigError`."""
    check_files(settings)
    tracer = open_tracer(settings.tracing, Ingress.name)
    return Ingress(settings, broker, open_store(settings.content_store), tracer)


def check_files(settings: Settings) -> None:
    """Raise `ConfigError` for a file of keys or credentials that cannot be used."""
    if settings.ingress.tls is not None:
        server_context(settings.ingress.tls)
    if settings.ingress.credentials_file is not None:
        load_credentials(settings.ingress.credentials_file)
    if settings.ingress.oauth is not None:
        load_keys(settings.ingress.oauth.jwks_file)
