"""Fixtures for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.support.compiled import VARIABLE, use_compiled

pytest_plugins = ["tests.support.rabbitmq"]

# How long an example takes says nothing: other tests run beside it.
settings.register_profile("postroad", deadline=None)
settings.load_profile("postroad")


def pytest_configure(config: pytest.Config) -> None:
    """In the process that runs tests: what starts workers would hand it on to them."""
    starts_workers = not hasattr(config, "workerinput") and bool(config.getoption("tx", None))
    if not starts_workers:
        use_compiled()


def pytest_report_header() -> str:
    """What the services that tests start are made of."""
    if (folder := os.environ.get(VARIABLE)) and use_compiled({**os.environ}):
        return f"services: compiled, from {folder}"
    return "services: plain Python (make test compiles them, as the image has them)"
