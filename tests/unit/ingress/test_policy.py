from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.ingress import policy
from services.ingress.policy import Rules, listener_rules
from shared.settings.model import Settings
from shared.smtp import server_replies as replies
from shared.smtp.parameters import MailParameters


def rules(**listener: Any) -> Rules:
    files = {"tls": {"certificate": "c", "key": "k"}, "credentials_file": Path("users")}
    settings = Settings.model_validate(
        {
            "hostname": "mta.example.net",
            "ingress": {"listeners": [{"port": 0, **listener}], "max_recipients": 100, **files},
        }
    )
    return listener_rules(settings, settings.ingress.listeners[0])


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("192.0.2.1", True),
        ("192.0.3.1", False),
        ("::ffff:192.0.2.1", True),
        ("::ffff:192.0.3.1", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("127.0.0.1", False),
    ],
)
def test_only_listed_networks_may_relay(address: str, allowed: bool) -> None:
    networks = ["192.0.2.0/24", "2001:db8::/32"]
    assert policy.may_relay_from(rules(relay_networks=networks), address) is allowed


def test_starttls_and_auth_are_offered_where_they_can_be_used() -> None:
    submission = rules(tls="starttls", auth="required")
    plain = policy.ehlo(submission, False, False).text.split("\n")
    secured = policy.ehlo(submission, True, False).text.split("\n")
    known = policy.ehlo(submission, True, True).text.split("\n")
    assert "STARTTLS" in plain
    assert not any(line.startswith("AUTH") for line in (*plain, *known))
    assert "AUTH PLAIN LOGIN" in secured
    assert "STARTTLS" not in secured
    assert plain[0] == "mta.example.net"
    everywhere = {"PIPELINING", "SIZE 26214400", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8"}
    assert everywhere <= set(plain) & set(secured) & set(known)


def test_auth_crosses_in_the_clear_only_where_the_listener_says_so() -> None:
    allowed = rules(tls="none", auth="required", auth_without_tls=True)
    assert policy.check_auth(allowed, False, False) is None
    assert policy.check_auth(rules(auth="optional"), False, False) is replies.AUTH_NEEDS_TLS
    assert policy.check_auth(rules(auth="optional"), True, False) is None


def test_auth_is_refused_where_it_makes_no_sense() -> None:
    submission = rules(tls="implicit", auth="required")
    assert policy.check_auth(submission, True, True) is replies.AUTH_DONE
    assert policy.check_auth(submission, True, False, True) is replies.AUTH_IN_TRANSACTION
    none = rules(auth="none", relay_networks=["10.0.0.0/8"])
    assert policy.check_auth(none, True, False) is replies.AUTH_NOT_OFFERED


def test_starttls_is_refused_inside_tls_and_where_it_is_not_configured() -> None:
    assert policy.check_starttls(rules(tls="starttls"), False) is None
    assert policy.check_starttls(rules(tls="starttls"), True) is replies.TLS_ACTIVE
    assert policy.check_starttls(rules(tls="implicit"), True) is replies.TLS_ACTIVE
    none = rules(tls="none", auth="none", relay_networks=["10.0.0.0/8"])
    assert policy.check_starttls(none, False) is replies.TLS_NOT_OFFERED


def test_mail_needs_auth_where_it_is_required_but_not_from_relay_networks() -> None:
    required, optional = rules(auth="required"), rules(auth="optional")
    assert policy.check_mail(required, False, None, MailParameters()) is replies.AUTH_REQUIRED
    assert policy.check_mail(required, True, None, MailParameters()) is None
    assert policy.check_mail(optional, False, None, MailParameters()) is None
    too_large = MailParameters(size=26_214_401)
    assert policy.check_mail(required, True, None, too_large) is replies.TOO_LARGE


def test_recipients_are_refused_to_strangers_and_beyond_the_limit() -> None:
    optional = rules(auth="optional")
    assert policy.check_recipient(optional, False, 0) is replies.RELAY_DENIED
    assert policy.check_recipient(optional, True, 99) is None
    assert policy.check_recipient(optional, True, 100) is replies.TOO_MANY_RECIPIENTS
