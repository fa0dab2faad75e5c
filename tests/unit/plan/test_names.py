"""Domains in one form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.routing import domain_of
from shared.plan.names import normal_domain


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("\u2063", "\u2063"),
    ],
)
def test_a_domain_has_one_form(text: str, name: str) -> None:
    assert normal_domain(text) == name


@given(st.from_regex(r"[a-zA-Zäöü0-9]{1,8}(\.[a-zA-Zäöü]{1,8}){0,2}", fullmatch=True))
def test_it_is_the_form_in_which_the_router_knows_the_domain_of_a_mailbox(text: str) -> None:
    domain = domain_of(f"user@{text}")
    assert domain is None or normal_domain(text) == domain
