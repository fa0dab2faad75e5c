"""The model of what a load needs: held to what was measured, and to common sense."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.plan import sizing
from shared.plan.sizing import KB, Load, size
from shared.plan.sizing_document import renew, summary
from shared.settings.model import Settings

DOCS = Path(__file__).parents[3] / "docs"
TOLERANCE = 1.6
"""A model of a run on another day: further off, it needs new constants."""

LOADS = st.builds(
    Load,
    per_hour=st.floats(1, 1e9),
    size=st.floats(100, 25e6),
    peak=st.floats(1, 20),
    jobs=st.floats(1, 100),
    retries=st.floats(0, 10),
    seconds=st.floats(0, 60),
    outage=st.floats(0, 100),
)


def measured(load: str, system: str, column: int) -> float:
    """A number out of the table of CPU milliseconds, by part."""
    page = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    start = page.index("| load | system | postfix | ingress |")
    row = re.search(rf"^\| {re.escape(load)} \| {system} \|(.+)$", page[start:], re.MULTILINE)
    assert row is not None
    return float(row[1].split("|")[column])


@pytest.mark.parametrize(
    ("cost", "column"),
    [(sizing.INGRESS, 1), (sizing.ROUTER, 2), (sizing.DELIVERY, 3), (sizing.BROKER, 4)],
)
def test_the_model_is_near_to_what_was_measured(cost: sizing.Cost, column: int) -> None:
    system = "postroad on RabbitMQ"
    small = measured("4 KB, connections reused", system, column)
    assert small / TOLERANCE < cost.of(4 * KB) < small * TOLERANCE
    large = measured("100 KB, connections reused", system, column)
    assert large / TOLERANCE < cost.of(100 * KB) < large * TOLERANCE


def test_the_limits_of_the_model_are_the_defaults_of_the_settings() -> None:
    settings = Settings()
    assert settings.content_store.inline_max_bytes == sizing.INLINE_MAX
    assert settings.delivery.max_connections == sizing.WORKER_CONNECTIONS


def test_a_million_an_hour_by_hand() -> None:
    needs = size(Load(1_000_000, size=4 * KB, peak=3.6, retries=0.0, fresh_in=0.0, fresh_out=0.0))
    assert needs.mails_per_second == pytest.approx(1000)
    assert needs.ingress.cores == pytest.approx(0.152)
    assert needs.delivery.cores == pytest.approx(0.154)
    assert needs.delivery.replicas == 2
    assert needs.connections == 500
    # 4.6 KB, twice, for two queues.
    assert needs.write_mb_per_second == pytest.approx(18.4)
    assert (needs.clusters, needs.nodes, needs.cores_a_node) == (1, 3, 2)


def test_slow_receivers_need_workers_for_their_connections_not_for_cpu() -> None:
    needs = size(Load(1_000_000, seconds=30.0))
    assert needs.connections > 25_000
    assert needs.delivery.replicas == -(-needs.connections // sizing.WORKER_CONNECTIONS) + 1


def test_contents_above_the_inline_limit_do_not_go_through_the_broker() -> None:
    inline, stored = size(Load(1e6, size=65_000)), size(Load(1e6, size=66_000))
    assert stored.write_mb_per_second < inline.write_mb_per_second / 50


@given(LOADS, st.floats(1, 10))
def test_more_mail_never_needs_less(load: Load, more: float) -> None:
    fields = {name: getattr(load, name) for name in Load.__slots__}
    before, after = size(load), size(Load(**fields | {"per_hour": load.per_hour * more}))
    assert after.ingress.replicas >= before.ingress.replicas
    assert after.delivery.replicas >= before.delivery.replicas
    assert after.nodes >= before.nodes
    assert after.partitions >= before.partitions >= before.delivery.replicas


@given(LOADS)
def test_no_process_is_busier_than_it_may_be_when_one_is_lost(load: Load) -> None:
    needs = size(load)
    for need in (needs.ingress, needs.router, needs.delivery):
        assert need.cores <= (need.replicas - 1) * sizing.UTILISATION * (1 + 1e-9)
    assert len(summary(needs)) == 6


def test_the_page_is_written_from_the_model() -> None:
    """`make docs` writes it."""
    page = (DOCS / "scaling.md").read_text(encoding="utf-8")
    assert renew(page) == page


def test_a_page_without_marks_is_an_error() -> None:
    with pytest.raises(ValueError, match="begin model"):
        renew("nothing")
