"""How a session of a receiver answers: as its script says, late, never, or without end.

The half of a session that writes. It knows stages and replies, not commands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.demo.home import Home
from services.demo.script import Script, Stage
from shared.smtp.replies import Reply

Then = Callable[[], None] | None
_ENDLESS_CHUNK = b"250-and more\r\n" * 1000


class ScriptedAnswers(asyncio.Protocol):
    """Collects replies and writes them at once; `_held` while nothing further may be handled."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._transport: asyncio.Transport
        self._out: list[bytes] = []
        self._held = False
        self._write_paused = False

    def _work(self) -> None:
        """Handle what has come so far."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """The peer does not read."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """The peer reads again: an endless reply goes on."""
        self._write_paused = False

    def _flush(self) -> None:
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def _answer(self, stage: Stage, usual: Reply | bytes, then: Then = None) -> None:
        """Answer a stage as scripted, else with `usual`; `then` follows if that is no refusal."""
        script = self._home.script
        delay = script.delays.get(stage, 0.0)
        if delay:
            self._held = True
            loop = asyncio.get_running_loop()
            loop.call_later(delay, self._answer_late, script, stage, usual, then)
        else:
            self._answer_now(script, stage, usual, then)

    def _answer_late(self, script: Script, stage: Stage, usual: Reply | bytes, then: Then) -> None:
        if not self._transport.is_closing():
            self._held = False
            self._answer_now(script, stage, usual, then)
            self._work()

    def _answer_now(self, script: Script, stage: Stage, usual: Reply | bytes, then: Then) -> None:
        if stage in script.drop_at:
            self._hang_up()
        elif stage in script.endless:
            self._held = True
            self._pour()
        else:
            reply = usual if stage is Stage.RCPT else script.replies.get(stage, usual)
            self._out.append(reply if isinstance(reply, bytes) else reply.to_bytes())
            if then is not None and isinstance(reply, Reply) and reply.code < 400:
                then()

    def _hang_up(self) -> None:
        self._held = True
        self._flush()
        self._transport.close()

    def _pour(self) -> None:
        if self._transport.is_closing():
            return
        if not self._write_paused:
            self._flush()
            self._transport.write(_ENDLESS_CHUNK)
        asyncio.get_running_loop().call_later(0.001, self._pour)
