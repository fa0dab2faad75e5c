from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.dialogue import Dialogue, Mode
from services.ingress.policy import MOST_ERRORS, MOST_IDLE_COMMANDS, User, listener_rules
from services.ingress.senders import Quotas
from shared.settings.model import Settings
from shared.smtp import server_replies as replies
from shared.smtp.lines import LineFault

SETTINGS = Settings.model_validate(
    {
        "ingress": {
            "listeners": [
                {"port": 0, "tls": "none", "auth": "none", "relay_networks": ["127.0.0.0/8"]},
                {"port": 0, "tls": "starttls", "auth": "required"},
            ],
            "tls": {"certificate": "c", "key": "k"},
            "credentials_file": Path("users"),
        }
    }
)
RELAY, SUBMISSION = (listener_rules(SETTINGS, each) for each in SETTINGS.ingress.listeners)


def relay() -> Dialogue:
    dialogue = Dialogue(
        RELAY, "127.0.0.1", secured=False, blocked=lambda: False, quotas=Quotas(lambda: 0.0)
    )
    dialogue.command(b"EHLO client.example")
    return dialogue


def submission(secured: bool = True) -> Dialogue:
    dialogue = Dialogue(
        SUBMISSION, "127.0.0.1", secured, blocked=lambda: False, quotas=Quotas(lambda: 0.0)
    )
    dialogue.command(b"EHLO client.example")
    return dialogue


def test_data_with_a_recipient_asks_for_content_and_ends_the_transaction() -> None:
    dialogue = relay()
    dialogue.command(b"MAIL FROM:<a@b.test> SIZE=10")
    dialogue.command(b"RCPT TO:<c@d.test>")
    assert dialogue.command(b"DATA") is replies.START_CONTENT
    assert dialogue.mode is Mode.CONTENT
    transaction = dialogue.end_content()
    assert transaction.reverse_path.address == "a@b.test"
    assert [path.address for path in transaction.recipients] == ["c@d.test"]
    assert transaction.parameters.size == 10
    assert (dialogue.mode, dialogue.transaction) == (Mode.COMMANDS, None)


@pytest.mark.parametrize("line", [b"DATA", b"data now"])
def test_a_refused_data_is_marked(line: bytes) -> None:
    dialogue = relay()
    reply = dialogue.command(line)
    assert reply is not None
    assert reply.permanent
    assert dialogue.mode is Mode.DATA_REFUSED


def test_auth_is_handed_to_the_shell_with_its_arguments() -> None:
    dialogue = submission()
    assert dialogue.command(b"auth plain AGEAYg==") is None
    assert (dialogue.mode, dialogue.auth_argument) == (Mode.AUTH, ("PLAIN", "AGEAYg=="))


def test_auth_is_refused_before_tls_and_in_a_transaction_and_for_strange_mechanisms() -> None:
    assert submission(secured=False).command(b"AUTH PLAIN") is replies.AUTH_NEEDS_TLS
    dialogue = submission()
    assert dialogue.command(b"AUTH CRAM-MD5") is replies.AUTH_MECHANISM
    assert dialogue.command(b"AUTH") is replies.AUTH_SYNTAX
    dialogue.authenticated(User("alice", "default"))
    assert dialogue.command(b"AUTH PLAIN") is replies.AUTH_DONE
    assert dialogue.mode is Mode.COMMANDS


def test_mail_needs_auth_and_takes_it() -> None:
    dialogue = submission()
    assert dialogue.command(b"MAIL FROM:<a@b.test>") is replies.AUTH_REQUIRED
    dialogue.authenticated(User("alice", "default"))
    assert dialogue.command(b"MAIL FROM:<a@b.test>") is replies.SENDER_OK
    assert dialogue.command(b"RCPT TO:<c@d.test>") is replies.RECIPIENT_OK


def test_starttls_makes_the_session_forget_everything() -> None:
    dialogue = submission(secured=False)
    assert dialogue.command(b"STARTTLS x") is replies.NO_ARGUMENT
    assert dialogue.command(b"STARTTLS") is replies.READY_FOR_TLS
    assert dialogue.mode is Mode.STARTTLS
    dialogue.authenticated(User("alice", "default"))
    dialogue.start(secured=True)
    assert dialogue.user is None
    assert dialogue.command(b"MAIL FROM:<a@b.test>") is replies.HELLO_FIRST
    assert (dialogue.user, dialogue.trusted, dialogue.extended) == (None, False, False)
    dialogue.command(b"EHLO x")
    assert dialogue.command(b"STARTTLS") is replies.TLS_ACTIVE


def test_auth_as_a_parameter_is_for_listeners_where_auth_was_announced() -> None:
    assert submission().command(b"MAIL FROM:<a@b.test> AUTH=<>") is replies.AUTH_REQUIRED
    assert submission(secured=False).command(b"MAIL FROM:<a@b.test> AUTH=<>") is (
        replies.UNKNOWN_PARAMETER
    )
    assert relay().command(b"MAIL FROM:<a@b.test> AUTH=<>") is replies.UNKNOWN_PARAMETER


def test_auth_as_a_parameter_stays_when_a_user_says_ehlo_again() -> None:
    dialogue = submission()
    dialogue.authenticated(User("al", "default"))
    dialogue.command(b"EHLO client.example")
    assert dialogue.command(b"MAIL FROM:<a@b.test> AUTH=<>") is replies.SENDER_OK


def test_a_time_to_deliver_by_is_for_users_and_long_enough() -> None:
    dialogue = submission()
    dialogue.authenticated(User("al", "default"))
    assert dialogue.command(b"MAIL FROM:<a@b.test> BY=60;R") is replies.UNKNOWN_PARAMETER
    dialogue.command(b"EHLO client.example")
    assert dialogue.command(b"MAIL FROM:<a@b.test> BY=9;R") is replies.BY_TOO_SHORT
    assert dialogue.command(b"MAIL FROM:<a@b.test> BY=0;R") is replies.PARAMETER_SYNTAX
    assert dialogue.command(b"MAIL FROM:<a@b.test> BY=10;R") is replies.SENDER_OK
    dialogue.command(b"RSET")
    assert dialogue.command(b"MAIL FROM:<a@b.test> BY=-5;N") is replies.SENDER_OK


def test_starttls_forgets_what_was_announced() -> None:
    dialogue = submission(secured=False)
    assert "SIZE" in dialogue.announced
    dialogue.start(secured=True)
    assert not dialogue.announced


def test_mail_is_refused_while_nothing_can_be_stored() -> None:
    blocked = True
    dialogue = Dialogue(
        RELAY, "127.0.0.1", secured=False, blocked=lambda: blocked, quotas=Quotas(lambda: 0.0)
    )
    dialogue.command(b"HELO x")
    assert dialogue.command(b"MAIL FROM:<a@b.test>") is replies.BLOCKED
    blocked = False
    assert dialogue.command(b"MAIL FROM:<a@b.test>") is replies.SENDER_OK


def test_errors_are_counted_over_lines_and_commands() -> None:
    dialogue = relay()
    for _ in range(MOST_ERRORS - 2):
        assert dialogue.command(b"BOGUS") is replies.NOT_RECOGNIZED
    assert dialogue.fault(LineFault.TOO_LONG) is replies.LINE_TOO_LONG
    assert dialogue.fault(LineFault.BARE_LINE_END) is replies.TOO_MANY_ERRORS
    assert dialogue.mode is Mode.CLOSED


@pytest.mark.parametrize("line", [b"NOOP", b"RSET", b"HELO x", b"EHLO x", b"VRFY a", b"HELP"])
def test_commands_that_bring_no_mail_are_limited_until_one_comes(line: bytes) -> None:
    dialogue = relay()
    for _ in range(MOST_IDLE_COMMANDS - 1):
        dialogue.command(line)
    assert dialogue.mode is Mode.COMMANDS
    dialogue.settled(accepted=True)
    for _ in range(MOST_IDLE_COMMANDS):
        assert dialogue.command(line) is not replies.TOO_MANY_COMMANDS
    assert dialogue.command(line) is replies.TOO_MANY_COMMANDS
    assert dialogue.mode.value == "closed"


def test_refused_recipients_are_no_errors_of_the_session() -> None:
    dialogue = relay()
    dialogue.command(b"MAIL FROM:<a@b.test>")
    for _ in range(200):
        assert dialogue.command(b"RCPT TO:<bad>") is replies.FORWARD_PATH_SYNTAX
    assert dialogue.mode is Mode.COMMANDS


VERBS = [b"EHLO ", b"MAIL FROM:", b"RCPT TO:", b"DATA", b"RSET", b"AUTH ", b"STARTTLS", b"VRFY "]


@given(st.lists(st.tuples(st.sampled_from([b"", *VERBS]), st.binary(max_size=40)), max_size=20))
def test_no_octets_raise_anything(commands: list[tuple[bytes, bytes]]) -> None:
    for dialogue in (relay(), submission()):
        for verb, argument in commands:
            dialogue.command(verb + argument)
            if dialogue.mode is Mode.CONTENT:
                dialogue.end_content()


def test_a_session_that_forgets_its_user_makes_room_for_another_one() -> None:
    dialogue, user = submission(), User("alice", "default", connections=1)
    assert dialogue.authenticated(user)
    dialogue.start(secured=True)
    assert dialogue.authenticated(user)
    assert not dialogue.authenticated(user)
    dialogue.leave()
    dialogue.leave()
    assert dialogue.authenticated(user)
