"""xtext, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.smtp.xtext import decode_xtext, encode_xtext


@given(st.text())
def test_what_is_encoded_is_decoded(text: str) -> None:
    encoded = encode_xtext(text.encode("utf-8", "replace").decode())
    assert encoded.isascii()
    assert " " not in encoded
    assert decode_xtext(encoded) == text.encode("utf-8", "replace").decode()


@given(st.text("+=0123456789ABCDEFgz ", max_size=8))
def test_any_text_is_decoded_or_one_error(text: str) -> None:
    try:
        decoded = decode_xtext(text)
    except ValueError:
        return
    assert decode_xtext(encode_xtext(decoded)) == decoded


@pytest.mark.parametrize("text", ["a+b", "a=b", "a b", "+0g", "+2", "\u00fc", "+2b"])
def test_what_is_no_xtext_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="xtext"):
        decode_xtext(text)
