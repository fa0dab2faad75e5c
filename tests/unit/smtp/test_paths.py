from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.smtp.errors import ProtocolError
from shared.smtp.paths import (
    NULL,
    ForwardPath,
    ReversePath,
    is_hello_name,
    parse_forward_path,
    parse_reverse_path,
)

ATOM = st.text("abcXYZ019!#$%&'*+/=?^_`{|}~-éж", min_size=1, max_size=8)
DOT_STRING = st.lists(ATOM, min_size=1, max_size=3).map(".".join)
QUOTED = st.lists(
    st.sampled_from(["a", " ", "@", ">", ".", "<", "\\\\", '\\"', "\\ ", "é"]), max_size=8
).map(lambda parts: f'"{"".join(parts)}"')
LABEL = st.from_regex(r"[a-zA-Z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True).filter(
    lambda label: label[2:4] != "--"
)
DOMAIN = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
LITERAL = st.one_of(
    st.ip_addresses(v=4).map(lambda ip: f"[{ip}]"),
    st.ip_addresses(v=6).map(lambda ip: f"[IPv6:{ip}]"),
)
LOCAL_PART = DOT_STRING | QUOTED
ANY_DOMAIN = DOMAIN | LITERAL | st.just("bücher.example")


@given(st.builds(ReversePath, LOCAL_PART, ANY_DOMAIN) | st.just(NULL))
def test_a_printed_reverse_path_is_parsed_to_itself(path: ReversePath) -> None:
    assert parse_reverse_path(f"{path} SIZE=1") == (path, " SIZE=1")


@given(st.builds(ForwardPath, LOCAL_PART, ANY_DOMAIN))
def test_a_printed_forward_path_is_parsed_to_itself(path: ForwardPath) -> None:
    assert parse_forward_path(str(path)) == (path, "")


@given(st.text())
def test_any_text_is_a_path_or_one_protocol_error(text: str) -> None:
    for candidate in (text, f"<{text}>", f"<{text}@one.test>", f"<a@{text}>"):
        with contextlib.suppress(ProtocolError):
            path, _ = parse_reverse_path(candidate)
            assert path.address.isprintable(), "delivery sends no other"
        with contextlib.suppress(ProtocolError):
            parse_forward_path(candidate)


def test_each_kind_of_path_has_its_own_error() -> None:
    with pytest.raises(ProtocolError, match=r"^501 5\.1\.7"):
        parse_reverse_path("x")
    with pytest.raises(ProtocolError, match=r"^501 5\.1\.3"):
        parse_forward_path("x")


def test_the_null_reverse_path_is_a_value_of_its_own() -> None:
    assert parse_reverse_path("<>") == (NULL, "")
    assert (NULL.is_null, NULL.address) == (True, "")
    assert not ReversePath('""', "one.test").is_null
    with pytest.raises(ProtocolError):
        parse_forward_path("<>")


def test_only_postmaster_may_come_without_a_domain() -> None:
    assert parse_forward_path("<POSTMASTER>")[0].address == "POSTMASTER"
    for text in ("<root>", "<postmaster@>", "<postmasters>"):
        with pytest.raises(ProtocolError):
            parse_forward_path(text)
    with pytest.raises(ProtocolError):
        parse_reverse_path("<postmaster>")


def test_a_source_route_is_dropped() -> None:
    assert parse_forward_path("<@a.test,@b.test:c@d.test>")[0].address == "c@d.test"
    for text in ("<@a.test:>", "<@:c@d.test>", "<@a.test,:c@d.test>", "<@a.test c@d.test>"):
        with pytest.raises(ProtocolError):
            parse_forward_path(text)


@pytest.mark.parametrize(
    "text",
    [
        "a@b.test",
        "<a@b.test",
        " <a@b.test>",
        "< a@b.test>",
        "<a@b.test >",
        "<a@@b.test>",
        "<a@b@c.test>",
        "<.a@b.test>",
        "<a.@b.test>",
        "<a\u00adb@b.test>",
        "<a\u200bb@b.test>",
        '<"a\u2028b"@b.test>',
        "<a@b\u00adb.test>",
        "<a..b@b.test>",
        '<"a@b.test>',
        '<a"b"@b.test>',
        "<@b.test>",
        "<a@>",
        "<a@.test>",
        "<a@b.>",
        "<a@-b.test>",
        "<a@b-.test>",
        "<a@b_c.test>",
        "<a@[1.2.3]>",
        "<a@[IPv6:1.2.3.4]>",
        "<a@[IPv6:fe80::1%eth0]>",
        "<a@[tag:x]>",
        f"<a@{'x' * 64}.test>",
        f"<a@{'x.' * 127}test>",
        f"<{'x' * 250}@b.test>",
        f"<{'é' * 125}@b.test>",
        "<a@ab--☃.test>",
        "<a@xn--a.test>",
        "<a@b.XN--ZZZZZZ99>",
        "<a@xn--abc-.test>",
        "<a@one\u3002test>",
        "<a@one\uff0etest.test>",
        "<a@\u00a0.test>",
        "<a\u0085b@c.test>",
        "<a\u0378@c.test>",
        "<a@b\u00adc.test>",
    ],
)
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(ProtocolError):
        parse_forward_path(text)


@pytest.mark.parametrize("tag", ["IPv6:", "ipv6:", "IPV6:"])
def test_the_tag_of_a_literal_may_come_in_any_case_and_is_kept_in_one(tag: str) -> None:
    for parse in (parse_forward_path, parse_reverse_path):
        assert parse(f"<a@[{tag}2001:db8::1]>")[0].domain == "[IPv6:2001:db8::1]"


@pytest.mark.parametrize("domain", ["xn--bcher-kva.test", "XN--BCHER-KVA.test", "ab--cd.test"])
def test_labels_with_two_hyphens(domain: str) -> None:
    assert parse_forward_path(f"<a@{domain}>")[0].domain == domain


def test_long_local_parts_of_bounce_addresses_are_taken() -> None:
    assert parse_reverse_path(f"<{'x' * 200}@b.test>")[0].domain == "b.test"


@pytest.mark.parametrize(
    "name", ["client.example", "localhost", "a_b", "[192.0.2.1]", "[IPv6:::1]"]
)
def test_names_that_may_follow_ehlo(name: str) -> None:
    assert is_hello_name(name)


@pytest.mark.parametrize("name", ["", "a b", "a\x1bb", "a(b)", "a;b", "bücher", "[x y]", "x" * 256])
def test_names_that_may_not_follow_ehlo(name: str) -> None:
    assert not is_hello_name(name)


def test_hostile_paths_take_linear_time() -> None:
    for text in ("<" + "a-" * 1000, "<a@" + "a-" * 1000, "<@" + "a." * 1000, '<"' + "\\" * 2000):
        with pytest.raises(ProtocolError):
            parse_forward_path(text + "!>")
