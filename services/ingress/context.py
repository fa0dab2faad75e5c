"""What all sessions of one listener share."""

from __future__ import annotations

from dataclasses import dataclass, field
from ssl import SSLContext

from services.ingress.acceptance import Acceptance
from services.ingress.authentication import Authentication
from services.ingress.crowding import Crowd
from services.ingress.overload import Overload
from services.ingress.patience import PatienceLimits
from services.ingress.policy import Rules
from services.ingress.senders import Quotas
from services.ingress.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Context:
    """`authentication` and `tls` are None where no listener offers them.

    `crowd` counts the sessions of strangers, `overload` tells when nobody may begin anything.
    """

    rules: Rules
    sessions: Sessions
    acceptance: Acceptance
    quotas: Quotas
    crowd: Crowd
    overload: Overload
    patience: PatienceLimits = field(default_factory=PatienceLimits)
    authentication: Authentication | None = None
    tls: SSLContext | None = None

    def blocked(self) -> bool:
        """Whether no mail can be taken now."""
        return self.overload.active or self.acceptance.blocked()
