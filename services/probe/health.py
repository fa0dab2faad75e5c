"""Asks the admin endpoints of a service, at every address that its name has.

A headless Service of Kubernetes has an address for each pod, so what is counted is added up.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from shared.settings.load import ConfigError

PATIENCE = 5.0
"""Seconds that one endpoint may take to answer."""


class Endpoints:
    """The admin endpoints behind one `http://host:port`. Raises `ConfigError` for another form."""

    def __init__(self, service: str, url: str) -> None:
        self.service = service
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or not parts.port:
            raise ConfigError(f"--{service}: {url!r} is not http://host:port")
        self._host, self._port = parts.hostname, parts.port

    def why_not_ready(self) -> str:
        """Empty when at least one answers that it is ready, else what they say."""
        said = []
        for address in self._addresses():
            status, text = self._get(address, "/readyz")
            if status == 200:
                return ""
            said.append(f"{address}: {text.strip() or status}")
        return ", ".join(said) or f"{self._host} has no address"

    def total(self, metric: str) -> float:
        """A counter, added up over its labels and all that answer."""
        return sum(
            sample.value
            for address in self._addresses()
            for family in text_string_to_metric_families(self._get(address, "/metrics")[1])
            for sample in family.samples
            if sample.name == metric
        )

    def _addresses(self) -> Iterator[str]:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError:
            return
        yield from dict.fromkeys(str(entry[4][0]) for entry in found)

    def _get(self, address: str, path: str) -> tuple[int, str]:
        """Status and text; 0 and why not, where nobody answers."""
        connection = http.client.HTTPConnection(address, self._port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers={"Host": self._host})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error) if path != "/metrics" else ""
        finally:
            connection.close()
