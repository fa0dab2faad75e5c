"""Fixtures for all tests."""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = ["tests.support.rabbitmq"]

# How long an example takes says nothing: other tests run beside it.
settings.register_profile("postroad", deadline=None)
settings.load_profile("postroad")
