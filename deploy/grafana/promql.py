"""The few forms of expressions that our panels are made of."""

from __future__ import annotations

HERE = 'namespace=~"$namespace"'
"""Matches everything where there is no such label."""
LANE = f'{HERE},lane=~"$lane",class=~"$class"'
RATE = "suffix: /s"
"""The unit of everything that is counted a second."""
PROVIDER = f'{HERE},provider=~"$provider"'


def per_second(metric: str, by: str = "", where: str = HERE) -> str:
    """The rate of a counter over all processes, by these labels."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{{{where}}}[$__rate_interval]))"


def total(metric: str, by: str = "", where: str = HERE) -> str:
    """A gauge of which each process tells its part."""
    return f"sum{f' by ({by})' if by else ''} ({metric}{{{where}}})"


def same(metric: str, by: str = "", where: str = HERE) -> str:
    """A gauge that every process tells alike."""
    return f"max{f' by ({by})' if by else ''} ({metric}{{{where}}})"


def quantile(share: float, metric: str, by: str = "", where: str = HERE) -> str:
    """A quantile of a histogram over all processes, by these labels."""
    labels = f"{by}, le" if by else "le"
    buckets = per_second(f"{metric}_bucket", labels, where)
    return f"histogram_quantile({share}, {buckets})"


def some(expression: str) -> str:
    """Only what is above 0: for labels with many values, most of which never happen here."""
    return f"{expression} > 0"
