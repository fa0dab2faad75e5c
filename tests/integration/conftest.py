"""Tests of ingress run on the loop that it runs on: uvloop's sockets and TLS are not asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

_ON_UVLOOP = (
    "test_dialogues",
    "test_ingress",
    "test_ingress_admission",
    "test_ingress_tls",
)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """One loop for each test."""
    if item.path.stem in _ON_UVLOOP:
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
