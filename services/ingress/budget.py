"""What a session may waste before it is ended (pure): errors, and commands that bring no mail.

Everything counts since the last accepted mail, so that whoever sends mail notices nothing. On the
way of a mail that is accepted nothing is counted at all: only refusals, commands that do nothing
for a mail, and transactions that are given up. Between them these bound every endless session.
"""

from __future__ import annotations

MOST_IDLE_COMMANDS = 100
"""Commands that do nothing for a mail: NOOP, RSET, EHLO and the like."""


class Budget:
    """Each count tells whether it is still within `errors` refusals and `commands` commands."""

    __slots__ = ("_commands", "_errors", "_idle", "_most_commands", "_most_errors")

    def __init__(self, errors: int, commands: int) -> None:
        self._most_errors = errors
        self._most_commands = commands
        self.clear()

    def clear(self) -> None:
        """A mail was accepted: the session is of use."""
        self._errors = self._commands = self._idle = 0

    def refused(self, *, error: bool) -> bool:
        """One command more was refused; an `error` is the client's own."""
        self._errors += error
        self._commands += 1
        return self._errors < self._most_errors and self._commands < self._most_commands

    def idle(self) -> bool:
        """One command more that does nothing for a mail."""
        self._idle += 1
        self._commands += 1
        return self._idle <= MOST_IDLE_COMMANDS and self._commands <= self._most_commands

    def gave_up(self, commands: int) -> None:
        """A transaction of so many commands came to nothing."""
        self._commands += commands
