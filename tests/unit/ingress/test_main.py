from __future__ import annotations

import socket
from pathlib import Path

import pytest

from services.ingress.main import build, check_files
from shared.settings.load import ConfigError
from tests.support.ingress import OPEN, ingress_settings, running_ingress
from tests.support.memory_broker import MemoryBroker


async def test_a_port_in_use_names_the_listener_and_nothing_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = ingress_settings(tmp_path, listeners=[OPEN, {**OPEN, "port": port}])
        service = build(settings, MemoryBroker())
        with pytest.raises(
            ConfigError, match=rf"^ingress\.listeners\.1: 127\.0\.0\.1 port {port}:"
        ):
            await service.start()
        assert service.addresses == []
        assert service.ready() == "not listening"


async def test_each_listener_tells_its_address(tmp_path: Path) -> None:
    listeners = [OPEN, {**OPEN, "address": "::1", "relay_networks": ["::1/128"]}]
    async with running_ingress(
        tmp_path, ingress_settings(tmp_path, listeners=listeners)
    ) as ingress:
        assert ingress.service.ready() == ""
        assert [address for address, _ in ingress.service.addresses] == ["127.0.0.1", "::1"]
        assert all(port > 0 for _, port in ingress.service.addresses)


def test_files_are_checked_before_anything_listens(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    listener = {"port": 0, "tls": "implicit", "auth": "none", "relay_networks": ["127.0.0.0/8"]}
    tls = {"certificate": str(missing), "key": str(missing)}
    with pytest.raises(ConfigError, match=r"^ingress\.tls\.certificate: "):
        check_files(ingress_settings(tmp_path, listener, tls=tls))
    listener = {"port": 0, "tls": "none", "auth": "required", "auth_without_tls": True}
    settings = ingress_settings(tmp_path, listener, credentials_file=str(missing))
    with pytest.raises(ConfigError, match=r"^ingress\.credentials_file: "):
        check_files(settings)
    with pytest.raises(ConfigError, match=r"^ingress\.credentials_file: "):
        build(settings, MemoryBroker())
