"""What a From header names, however it is spelled, and what is no list of mailboxes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.mail.addresses import MOST_ADDRESSES, mailboxes


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        ("a@b.test", ["a@b.test"]),
        ('"A, B" <a@b.test>, c@d.test', ["a@b.test", "c@d.test"]),
        ("John Q. Public (x (y)) <a@b.test>", ["a@b.test"]),
        ("Group: a@b.test, B <c@d.test>; e@f.test", ["a@b.test", "c@d.test", "e@f.test"]),
        ("undisclosed recipients: ;", []),
        ('"x\\"" <"q q"@b.test>', ['"q q"@b.test']),
        ("<@relay.test,@other.test:a@b.test>", ["a@b.test"]),
        ("=?utf-8?q?J=C3=B6rg?= <a@b.test>", ["a@b.test"]),
        ("Jörg <jörg@b.test>", ["jörg@b.test"]),
        ("\r\n\ta @ b . test", ["a@b.test"]),
        ("(one)(two \\) three)a@b.test(four)", ["a@b.test"]),
        ("a@[192.0.2.1]", ["a@[192.0.2.1]"]),
        ("a@b.test,, ,", ["a@b.test"]),
        ("a@b.test <a@b.test>", ["a@b.test"]),
        ('"x@y.test" <a@b.test> (c)', ["a@b.test"]),
        ("", []),
    ],
)
def test_the_addresses_of_a_list(value: str, addresses: list[str]) -> None:
    assert mailboxes(value) == tuple(addresses)


@pytest.mark.parametrize(
    "value",
    [
        "a b@c.test",
        "a(x)b@c.test",
        "a",
        "A <a>",
        "<>",
        "<a@b.test",
        "a@b.test>",
        "<a@b.test> <c@d.test>",
        "a@b.test <c@d.test> e@f.test <g@h.test>",
        '"a <a@b.test>',
        "(a <a@b.test>",
        "a@b.test c@d.test",
        "x@y.test <a@b.test>",
        "<a@b.test> x@y.test",
        "<a@b.test> B",
        "<x@y.test>: a@b.test;",
        "<x@y.test>:a@b.test",
        "x@y.test: a@b.test;",
        ": a@b.test;",
        "[x@y.test] <a@b.test>",
        "[1] <a@b.test>",
        "[x@y.test]: a@b.test;",
        "a@b.test [x@y.test]",
        "Boss: Group: a@b.test;;",
        "<a@b.test\x00>",
        "a\\@b.test",
        "a@b..test",
        ",".join(["a@b.test"] * (MOST_ADDRESSES + 1)),
    ],
)
def test_what_two_readers_could_read_differently_is_no_list(value: str) -> None:
    with pytest.raises(ValueError, match=r"address|mailboxes|comment|domain"):
        mailboxes(value)


NAMES = st.text("abc .'-", max_size=8)
PLAIN = st.lists(st.from_regex(r"[a-z0-9]{1,5}(\.[a-z]{1,3})?@[a-z]{1,5}\.test", fullmatch=True))


@given(PLAIN, NAMES)
def test_what_is_written_is_read(addresses: list[str], name: str) -> None:
    assert mailboxes(", ".join(f'"{name}" <{address}>' for address in addresses)) == tuple(
        addresses
    )
    assert mailboxes(f'"{name}": {",".join(addresses)};') == tuple(addresses)


@given(st.text() | st.text('<>@,;:"()[]\\. ab\t', max_size=30))
@example("\U0001195a@0")
def test_any_text_gives_addresses_or_one_error(value: str) -> None:
    try:
        found = mailboxes(value)
    except ValueError:
        return
    assert all("@" in address and address.isprintable() for address in found)
