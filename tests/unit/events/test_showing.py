"""How events look on a terminal."""

from __future__ import annotations

import io
from datetime import UTC

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console

from services.events.showing import COLOURS, line_of, story_of
from shared.events.model import KINDS, Hop, MailEvent, Tls
from tests.unit.events.test_codec import EVENT, events

DELIVERED = replace(
    EVENT,
    event="delivered",
    at=1000.75,
    job_id="J",
    attempt=2,
    recipients=("a@b.test", "c@b.test", "d@b.test", "e@b.test"),
    reply="250 2.0.0 Ok",
    hop=Hop("mx.b.test", "192.0.2.1", 25, Tls("TLSv1.3", "X")),
)


def shown(event: MailEvent) -> str:
    return line_of(event, UTC).plain


def test_a_line_tells_when_what_whose_to_whom_with_whom_and_the_reply() -> None:
    assert shown(DELIVERED) == (
        "00:16:40.750  delivered  M  shop/bulk  <a@b.test>, <c@b.test>, <d@b.test> and 1 more"
        "  attempt 2  mx.b.test [192.0.2.1]:25 TLSv1.3  250 2.0.0 Ok"
    )


def test_a_line_tells_why_and_when_it_is_tried_again_and_who_is_told() -> None:
    event = replace(
        DELIVERED, event="deferred", recipients=("a@b.test",), reason="policy", reply="451 No",
        delay_seconds=300.0, attempt_seconds=1.5, notification="N",
        hop=Hop("mx.b.test", "192.0.2.1", 25),
    )  # fmt: skip
    assert shown(event).endswith(
        "mx.b.test [192.0.2.1]:25 in clear text  policy  451 No  took 1.500 s  again in 5m"
        "  sender is told by N"
    )


def test_a_story_has_a_heading_and_the_time_since_the_first() -> None:
    first = replace(EVENT, reverse_path="s@a.test", octets=7, tls=Tls("TLSv1.3", "X"))
    heading, one, two = [line.plain for line in story_of([first, DELIVERED], UTC)]
    assert heading == ("M  1970-01-01 00:16:40 UTC  tenant shop, bulk  from <s@a.test>, 7 octets")
    assert one.split()[:4] == ["+0.000", "s", "00:16:40.500", "accepted"]
    assert two.split()[:4] == ["+0.250", "s", "00:16:40.750", "delivered"]
    assert "M" not in two.split()


def test_every_kind_has_a_colour_on_a_terminal() -> None:
    assert COLOURS.keys() == KINDS.keys()
    output = io.StringIO()
    Console(file=output, force_terminal=True, color_system="standard").print(line_of(DELIVERED))
    assert "  250 2.0.0 Ok" in output.getvalue().rpartition("\x1b[0m")[2]
    assert "\x1b[32m  delivered" in output.getvalue()


@given(events(), st.sampled_from(["", "\x1b[31m", "[red]x[/red]", "\n", "\u202e", "\x9b"]))
def test_text_of_strangers_neither_breaks_a_line_nor_drives_a_terminal(
    event: MailEvent, attack: str
) -> None:
    event = replace(event, reply=attack + event.reply, recipients=(attack,), mail_id=attack)
    for line in (line_of(event, UTC), *story_of([event], UTC)):
        output = io.StringIO()
        Console(file=output, force_terminal=False, width=100_000, soft_wrap=True).print(line)
        text = output.getvalue().removesuffix("\n")
        assert text.isprintable()
        assert text == line.plain


def test_a_time_that_is_none_does_not_keep_an_event_from_being_shown() -> None:
    assert shown(replace(DELIVERED, at=1e300)).startswith("?  delivered")
