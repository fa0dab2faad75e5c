from __future__ import annotations

import pytest

from shared.mail.trace import Hop, Protocol, date_time, hop_count, protocol, received_line


def test_the_line_is_folded_and_names_who_gave_and_who_took() -> None:
    hop = Hop("client.example", "192.0.2.1", "mta.example.net", Protocol.ESMTPS)
    assert received_line(hop, "ID", 1795507200.9) == (
        b"Received: from client.example ([192.0.2.1])\r\n"
        b"\tby mta.example.net with ESMTPS id ID;\r\n"
        b"\tTue, 24 Nov 2026 08:00:00 +0000\r\n"
    )


def test_what_protected_the_way_is_a_comment() -> None:
    tls = "TLSv1.3 TLS_AES_256_GCM_SHA384"
    hop = Hop("x", "192.0.2.1", "mta.example.net", Protocol.ESMTPS, tls)
    assert received_line(hop, "ID", 0) == (
        b"Received: from x ([192.0.2.1])\r\n"
        b"\t(using TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        b"\tby mta.example.net with ESMTPS id ID;\r\n"
        b"\tThu, 01 Jan 1970 00:00:00 +0000\r\n"
    )


def test_an_ipv6_address_is_a_tagged_literal() -> None:
    hop = Hop("x", "2001:db8::1", "mta.example.net", Protocol.SMTP)
    assert b"from x ([IPv6:2001:db8::1])\r\n" in received_line(hop, "ID", 0)


@pytest.mark.parametrize("name", ["x\r\nBcc: v@t", "x\x00", "x\ny", "x\x1b[2J"])
def test_control_characters_never_reach_the_line(name: str) -> None:
    for hop in (
        Hop(name, "192.0.2.1", "mta.example.net", Protocol.SMTP),
        Hop("x", "192.0.2.1", name, Protocol.SMTP),
        Hop("x", "192.0.2.1", "mta.example.net", Protocol.ESMTPS, name),
    ):
        with pytest.raises(ValueError, match="control characters"):
            received_line(hop, "ID", 0)


@pytest.mark.parametrize(
    ("extended", "smtputf8", "secured", "authenticated", "wanted"),
    [
        (False, False, False, False, "SMTP"),
        (False, False, True, False, "SMTP"),
        (True, False, False, False, "ESMTP"),
        (True, False, False, True, "ESMTPA"),
        (True, False, True, False, "ESMTPS"),
        (True, False, True, True, "ESMTPSA"),
        (True, True, False, False, "UTF8SMTP"),
        (True, True, False, True, "UTF8SMTPA"),
        (True, True, True, False, "UTF8SMTPS"),
        (True, True, True, True, "UTF8SMTPSA"),
    ],
)
def test_the_protocol_says_how_the_mail_came(
    extended: bool, smtputf8: bool, secured: bool, authenticated: bool, wanted: str
) -> None:
    assert protocol(extended, smtputf8, secured, authenticated) == wanted


def test_dates_are_in_utc() -> None:
    assert date_time(0) == "Thu, 01 Jan 1970 00:00:00 +0000"


def test_hops_are_counted_by_their_lines() -> None:
    assert hop_count(b"received: a\r\n\tb\r\nx-received: c\r\nreceived: d\r\n") == 2
    assert hop_count(b"subject: received: a\r\n") == 0
