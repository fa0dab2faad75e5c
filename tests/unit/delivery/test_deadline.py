from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.delivery.deadline import (
    NEEDS_DELIVERBY,
    TOO_LITTLE_LEFT,
    by_parameter,
    deadline_obstacle,
)
from shared.mail.deadline import OVERDUE
from shared.messages.model import DeliverBy
from shared.smtp.parameters import ALL_PARAMETERS, parse_mail_parameters
from shared.smtp.replies import Reply

R = DeliverBy(100.0, returns=True)


@pytest.mark.parametrize(
    ("offered", "now", "obstacle"),
    [
        ({}, 0.0, NEEDS_DELIVERBY),
        ({}, 99.5, OVERDUE),
        ({"deliverby": ""}, 99.0, None),
        ({"deliverby": ""}, 99.1, OVERDUE),
        ({"deliverby": "30"}, 70.0, None),
        ({"deliverby": "30"}, 70.1, TOO_LITTLE_LEFT),
        ({"deliverby": "30,new"}, 71.0, TOO_LITTLE_LEFT),
        ({"deliverby": "soon"}, 50.0, None),
    ],
)
def test_what_must_come_back_in_time_goes_only_where_that_is_promised(
    offered: dict[str, str], now: float, obstacle: Reply | None
) -> None:
    assert deadline_obstacle(R, offered, now) is obstacle


def test_what_is_only_told_of_goes_anywhere() -> None:
    assert deadline_obstacle(DeliverBy(100.0), {}, 500.0) is None


def test_the_time_that_is_left_is_passed_on() -> None:
    assert by_parameter(R, 40.5) == " BY=59;R"
    assert by_parameter(DeliverBy(100.0, traced=True), 130.0) == " BY=-30;NT"


@given(st.floats(allow_nan=True), st.booleans(), st.floats(0, 1e10))
@example(float("inf"), False, 0.0)
@example(float("nan"), False, 0.0)
def test_whatever_the_queue_holds_the_parameter_is_one(
    deadline: float, traced: bool, now: float
) -> None:
    text = by_parameter(DeliverBy(deadline, traced=traced), now)
    assert parse_mail_parameters(text, ALL_PARAMETERS).by is not None
