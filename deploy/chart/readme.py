"""Writes the README of the chart from the comments of its values (pure)."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import yaml

from deploy.chart.comments import Value, documented

INTRODUCTION = """\
# Helm chart of postroad

This page is written by `make chart` from the comments in `values.yaml`; a test keeps it so.
[docs/kubernetes.md](../../docs/kubernetes.md) tells how to install, step by step.

```sh
helm install postroad ./helm/postroad -n mail -f values.yaml
```

The least that has to be said:

```yaml
hostname: mta.example.net
rabbitmq:
  external: {existingSecret: postroad-rabbitmq}     # url: amqps://user:password@host:5671/vhost
ingress:
  tls: {existingSecret: postroad-tls}               # tls.crt, tls.key
  credentials: {existingSecret: postroad-users}     # credentials.yaml
```

A key that is not here is an error, and so is a combination that cannot work.
"""


def readme(values: str) -> str:
    """The page, as Markdown; `values` is the text of values.yaml. Raises ValueError."""
    parts = [INTRODUCTION]
    for section, group in groupby(documented(values), lambda value: value.path.partition(".")[0]):
        rows = [_row(value) for value in group]
        parts.append(
            f"## `{section}`\n\n| Key | Default | Meaning |\n|---|---|---|\n"
            + "\n".join(rows)
            + "\n"
        )
    return "\n".join(parts)


def _row(value: Value) -> str:
    default = "" if value.has_documented_keys else f"`{_as_yaml(value.default)}`"
    cells = (f"`{value.path}`", default, value.meaning)
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _as_yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.strip().removesuffix("...").strip()
