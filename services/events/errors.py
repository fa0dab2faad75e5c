"""What can be wrong with the events that are kept."""

from __future__ import annotations


class StoreError(Exception):
    """The file cannot be used; the text names it."""
