from __future__ import annotations

import unicodedata

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from shared.settings import values


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("host", ("host", 25)),
        ("host:26", ("host", 26)),
        ("::1", ("::1", 25)),
        ("[::1]", ("::1", 25)),
        ("[::1]:26", ("::1", 26)),
    ],
)
def test_host_and_port_are_split(text: str, pair: tuple[str, int]) -> None:
    assert values.split_host_port(text, 25) == pair


@pytest.mark.parametrize(
    "text",
    ["", ":25", "host:", "host:0", "host:65536", "host:smtp", "host:+5", "[::1", "[::1]x", "[]:25"],
)
def test_what_is_no_host_and_port_is_refused_by_its_own_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        values.split_host_port(text, 25)


@given(st.text())
def test_any_text_is_split_or_refused_by_its_own_text(text: str) -> None:
    try:
        host, port = values.split_host_port(text, 25)
    except ValueError as error:
        reason = str(error)
    else:
        reason = ""
        assert host
        assert 1 <= port <= 65535
    assert reason in {"", f"{text!r} is not host:port"}


@given(
    st.text(alphabet=st.characters(exclude_characters="/?#@:[]\\", min_codepoint=33), min_size=1)
)
@example("\u2105")
def test_no_password_is_left_in_a_url_that_is_logged(password: str) -> None:
    # Others are no URL: `broker_url` has refused them.
    assume(not set("/?#@:") & set(unicodedata.normalize("NFKC", password)))
    url = f"amqp://user:secret-{password}@host:5672/vhost"

    assert values.hide_password(url) == "amqp://user:***@host:5672/vhost"


@pytest.mark.parametrize(
    "url", ["embedded:///var/lib/postroad", "amqp://host//", "amqp://u@host//"]
)
def test_a_url_without_a_password_is_logged_as_it_is(url: str) -> None:
    assert values.hide_password(url) == url


@pytest.mark.parametrize(
    ("address", "other", "clash"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("::", "::1", True),
        ("::", "127.0.0.1", False),
    ],
)
def test_a_port_is_taken_on_equal_addresses_and_by_the_unspecified_one(
    address: str, other: str, clash: bool
) -> None:
    assert values.overlap(address, other) is clash


@pytest.mark.parametrize("name", ["a", "mta-1.example.net", "1.example", "A" * 63 + ".b"])
def test_host_names_are_letters_digits_and_hyphens(name: str) -> None:
    assert values.host_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "a.", "-a", "a-", "a_b", "ä.example", "a b", "A" * 64])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a host name"):
        values.host_name(name)
