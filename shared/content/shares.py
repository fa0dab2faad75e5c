"""When a blob may go (pure): each ended job leaves a marker that carries its share.

A mail that was split into n jobs gives each a share of 1/n; a job that is split again divides
its share. A job's marker has the job's id, so an end that is reported twice counts once.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction


def marker_prefix(blob: str) -> str:
    """The folder of a blob's markers."""
    return f"{blob}.ended"


def marker_name(blob: str, share: Fraction, job_id: str) -> str:
    """The name of the marker of one ended job."""
    return f"{marker_prefix(blob)}/{share.denominator}-{job_id}"


def all_ended(markers: Iterable[str]) -> bool:
    """Whether the shares of all ended jobs add up to the whole blob."""
    names = {marker.rpartition("/")[2] for marker in markers}
    return sum((Fraction(1, int(name.partition("-")[0])) for name in names), Fraction(0)) >= 1
