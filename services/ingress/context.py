"""What all sessions of one listener share."""

from __future__ import annotations

from dataclasses import dataclass
from ssl import SSLContext

from services.ingress.acceptance import Acceptance
from services.ingress.authentication import Authentication
from services.ingress.policy import Rules
from services.ingress.senders import Quotas
from services.ingress.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Context:
    """`authentication` and `tls` are None where no listener offers them."""

    rules: Rules
    sessions: Sessions
    acceptance: Acceptance
    quotas: Quotas
    authentication: Authentication | None = None
    tls: SSLContext | None = None
