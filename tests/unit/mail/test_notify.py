from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mail.notify import merged, wants
from shared.messages.model import Recipient
from shared.smtp.parameters import Notify

WISHES = ("", "NEVER", "SUCCESS", "FAILURE", "DELAY", "SUCCESS,DELAY", "SUCCESS,FAILURE,DELAY")


@pytest.mark.parametrize(
    ("asked", "together"),
    [
        ([], ""),
        (["NEVER"], "NEVER"),
        (["NEVER", "NEVER"], "NEVER"),
        (["NEVER", ""], ""),
        (["", "NEVER"], ""),
        (["", ""], ""),
        (["SUCCESS", ""], "SUCCESS,FAILURE"),
        (["NEVER", "DELAY"], "DELAY"),
        (["DELAY", "SUCCESS", "DELAY"], "SUCCESS,DELAY"),
    ],
)
def test_what_several_rcpts_of_one_address_ask_for(asked: list[str], together: str) -> None:
    assert merged(asked) == together


@given(st.lists(st.sampled_from(WISHES), min_size=1), st.sampled_from(Notify))
def test_what_one_of_them_wants_is_wanted_and_nothing_else(asked: list[str], what: Notify) -> None:
    each = [wants(Recipient("a@b.test", notify=wish), what) for wish in asked]
    assert wants(Recipient("a@b.test", notify=merged(asked)), what) == any(each)
