"""A declaration for tests of what is done on a connection that has no broker behind it."""

from __future__ import annotations

from typing import Any

from shared.broker.amqp.declaring import Declaration
from shared.broker.topology import Topology


class Declared(Declaration):
    """All is there already; counts how often it was declared anew, and doubted."""

    def __init__(self, topology: Topology) -> None:
        super().__init__(topology)
        self.renewed = 0
        self.doubted = 0

    def ensure(self, connection: Any) -> None:
        pass

    def ensure_lasting(self, connection: Any) -> None:
        pass

    def renew(self, connection: Any) -> None:
        self.renewed += 1

    def doubt(self) -> None:
        self.doubted += 1
