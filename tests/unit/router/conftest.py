"""The router's rig as a fixture."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import dns.rcode
import pytest

from shared.dns.resolver import DnspythonResolver
from shared.logs import configure_logging
from shared.settings.model import LoggingSettings
from tests.support.dns_authority import DnsAuthority, serving
from tests.support.log_state import log_state_kept
from tests.unit.router.rig import Rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    zone = {("mx.test.", "MX"): ["10 mail.mx.test."], ("null.test.", "MX"): ["0 ."],
            ("down.test.", "TXT"): ['"x"']}  # fmt: skip
    authority = DnsAuthority(zone)
    authority.rcodes["down.test."] = dns.rcode.SERVFAIL
    rig = Rig(authority, tmp_path)
    with log_state_kept():
        configure_logging(LoggingSettings(format="json"), "router")
        async with serving(authority) as settings:
            rig.resolver = DnspythonResolver(settings)
            await rig.start()
            yield rig
            rig.broker.resume()
            await rig.router.drain()
