"""`postroad health`: asks the services on this machine how they are, as health checks do.

It reads nothing but the configuration and the admin endpoints, so it says what a balancer or an
orchestrator would be told.
"""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from dataclasses import dataclass

from shared.settings.load import ConfigError
from shared.settings.model import AdminSettings

SERVICES = ("ingress", "router", "delivery")
TIMEOUT = 3.0
"""Seconds one service has to answer."""

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where to ask somebody who listens everywhere."""


@dataclass(frozen=True, slots=True)
class Health:
    """What a service says of itself; `answered`: whether anybody did."""

    service: str
    answered: bool
    well: bool
    said: str


def ask(
    settings: AdminSettings, names: Sequence[str], path: str, timeout: float = TIMEOUT
) -> list[Health]:
    """How these services are, or all that answer here; `path` is /livez or /readyz.

    Raises `ConfigError` for a service that there is not, or that has no port of its own.
    """
    for name in names:
        if name not in SERVICES:
            raise ConfigError(f"{name}: not one of {', '.join(SERVICES)}")
        if not _port(settings, name):
            raise ConfigError(f"admin.{name}_port: 0 is any port: nobody knows whom to ask")
    asked = [name for name in names or SERVICES if _port(settings, name)]
    host = _ANY.get(settings.address, settings.address)
    found = [_ask(name, (host, _port(settings, name)), path, timeout) for name in asked]
    return found if names else [health for health in found if health.answered]


def _port(settings: AdminSettings, service: str) -> int:
    return int(getattr(settings, f"{service}_port"))


def _ask(service: str, place: tuple[str, int], path: str, timeout: float) -> Health:
    host, port = place
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace").strip()
        return Health(service, True, answer.status == 200, said)
    except ConnectionRefusedError:
        return Health(service, False, False, f"nobody listens on port {port}")
    except (OSError, http.client.HTTPException) as error:
        # A process that has the port and does not answer is there, and not well.
        return Health(service, True, False, f"no answer on port {port}: {error}")
    finally:
        connection.close()
