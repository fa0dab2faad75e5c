"""How long a next hop may take, and what is done about mail that it perhaps took, as configured."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, field_validator

from shared.settings.section import Section
from shared.settings.units import Duration, parse_duration_ms

LONGEST_FINAL_DOT = parse_duration_ms("12m")


class TimeoutSettings(Section):
    """How long a next hop may take for each step (RFC 5321, 4.5.3.2)."""

    connect: Duration = Field(parse_duration_ms("30s"), description="Time for TCP to connect.")
    greeting: Duration = Field(
        parse_duration_ms("5m"), description="Time for the greeting (4.5.3.2.1)."
    )
    ehlo: Duration = Field(
        parse_duration_ms("5m"), description="Time for the reply to EHLO or HELO."
    )
    tls: Duration = Field(
        parse_duration_ms("1m"),
        description="Time for the reply to STARTTLS, and again for the handshake.",
    )
    mail: Duration = Field(
        parse_duration_ms("5m"), description="Time for the reply to MAIL or RSET (4.5.3.2.2)."
    )
    rcpt: Duration = Field(
        parse_duration_ms("5m"), description="Time for the reply to each RCPT (4.5.3.2.3)."
    )
    data: Duration = Field(
        parse_duration_ms("2m"), description="Time for the reply to DATA (4.5.3.2.4)."
    )
    block: Duration = Field(
        parse_duration_ms("3m"),
        description="Time to take each 256 KB of the content (4.5.3.2.5), and for the reply to "
        "each part of it but the last.",
    )
    final_dot: Duration = Field(
        parse_duration_ms("10m"),
        description="Time for the reply after the content (4.5.3.2.6); at most 12m, since RabbitMQ "
        "takes back what is held for half an hour.",
    )
    quit: Duration = Field(parse_duration_ms("5s"), description="Time for the reply to QUIT.")

    @field_validator("final_dot")
    @classmethod
    def _ends_before_the_broker_is_impatient(cls, value: int) -> int:
        if value > LONGEST_FINAL_DOT:
            raise ValueError("is more than 12m: the broker would take the mail back meanwhile")
        return value


class Uncertain(StrEnum):
    """What is done when nobody knows whether the receiver took a mail."""

    RETRY = "retry"
    SENT = "sent"
    HOLD = "hold"
