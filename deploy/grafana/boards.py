"""Every board, in the order in which one reads them."""

from __future__ import annotations

from deploy.grafana.delivery import DELIVERY
from deploy.grafana.ingress import ACCEPTANCE
from deploy.grafana.overview import OVERVIEW
from deploy.grafana.queues import QUEUES
from deploy.grafana.retries import RETRIES
from deploy.grafana.runtime import RUNTIME

BOARDS = (OVERVIEW, ACCEPTANCE, DELIVERY, RETRIES, QUEUES, RUNTIME)
