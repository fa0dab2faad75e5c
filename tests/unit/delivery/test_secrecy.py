"""Which connections may take mail that requires TLS (RFC 8689)."""

from __future__ import annotations

import itertools

import msgspec

from services.delivery.secrecy import connections_of, is_secret
from shared.messages.model import Content, DeliveryJob, MailExchanger

JOB = DeliveryJob(
    "J", "M", 0.0, "s@a.test", (), Content(0), "b.test", (MailExchanger(10, "mx.b.test"),)
)
KINDS: dict[str, dict[str, bool | str]] = {
    "other": {},
    "other, authentic": {"authentic": True},
    "secret": {"require_tls": True, "authentic": True},
    "secret, not authentic": {"require_tls": True},
    "notification": {"require_tls": True, "authentic": True, "reverse_path": ""},
}


def changed(kind: str) -> DeliveryJob:
    return msgspec.structs.replace(JOB, **KINDS[kind])


def test_only_mail_of_one_kind_shares_connections() -> None:
    """A connection that was not verified, or for other reasons, must not get such mail."""
    keys = {kind: connections_of(changed(kind)) for kind in KINDS}
    for one, other in itertools.combinations(KINDS, 2):
        same = {one, other} == {"other", "other, authentic"}
        assert (keys[one] == keys[other]) == same, (one, other)


def test_a_notification_is_no_secret_and_other_mail_neither() -> None:
    assert [kind for kind in KINDS if is_secret(changed(kind))] == [
        "secret",
        "secret, not authentic",
    ]
