"""Messages on the wire: what goes in comes out, and no bytes at all break a consumer."""

from __future__ import annotations

import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.broker.interface import ParkReason
from shared.messages.codec import CodecError, Message, decode, encode
from shared.messages.model import (
    PLAIN,
    SCHEMA,
    AcceptedMail,
    Content,
    DeliverBy,
    DeliveryJob,
    Event,
    MailExchanger,
    MessageClass,
    Recipient,
)

TEXT = st.text(max_size=30)
CONTENTS = st.one_of(
    st.binary(max_size=200).map(lambda data: Content(len(data), memoryview(data))),
    st.builds(Content, size=st.integers(0, 2**40), blob=TEXT),
)
RECIPIENTS = st.lists(st.builds(Recipient, TEXT), max_size=5).map(tuple)
CLASSES = st.sampled_from(MessageClass)
MAILS = st.builds(
    AcceptedMail,
    id=TEXT,
    accepted_at=st.floats(0, 1e10),
    reverse_path=TEXT,
    recipients=RECIPIENTS,
    content=CONTENTS,
    tenant=TEXT,
    message_class=CLASSES,
    eight_bit=st.booleans(),
    smtputf8=st.booleans(),
    binary=st.booleans(),
    traceparent=TEXT,
    require_tls=st.booleans(),
    deliver_by=st.none()
    | st.builds(DeliverBy, st.floats(0, 1e10), st.booleans(), st.booleans(), st.booleans()),
)
JOBS = st.builds(
    DeliveryJob,
    id=TEXT,
    mail_id=TEXT,
    accepted_at=st.floats(0, 1e10),
    reverse_path=TEXT,
    recipients=RECIPIENTS,
    content=CONTENTS,
    destination=TEXT,
    exchangers=st.lists(
        st.builds(MailExchanger, st.integers(0, 65535), TEXT, st.integers(0, 65535)), max_size=3
    ).map(tuple),
    share=st.integers(1, 1000),
    attempt=st.integers(0, 100),
    traceparent=TEXT,
)
EVENTS = st.builds(Event, kind=TEXT, at=st.floats(0, 1e10), mail_id=TEXT)


@given(st.one_of(MAILS, JOBS, EVENTS))
def test_what_goes_in_comes_out(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_codec_error(body: bytes) -> None:
    assert isinstance(_message_or_reason(body), Message | ParkReason)


def _message_or_reason(body: bytes) -> Message | ParkReason:
    try:
        return decode(body)
    except CodecError as error:
        return error.reason


@given(MAILS, st.integers(0, 400))
def test_a_message_that_was_cut_off_is_undecodable(mail: AcceptedMail, cut: int) -> None:
    body = encode(mail)
    with pytest.raises(CodecError) as caught:
        decode(body[: min(cut, len(body) - 1)])
    assert caught.value.reason in {ParkReason.UNDECODABLE, ParkReason.UNKNOWN_SCHEMA}


def test_inline_content_is_a_view_of_the_body_and_not_a_copy() -> None:
    data = b"x" * 1000
    body = encode(AcceptedMail("id", 0.0, "", (), Content(1000, memoryview(data))))
    mail = decode(body)
    assert isinstance(mail, AcceptedMail)
    assert mail.content.inline.obj is body


@pytest.mark.parametrize(
    "body",
    [
        msgspec.msgpack.encode({"type": "accepted", "schema": SCHEMA + 1, "new": "shape"}),
        msgspec.msgpack.encode({"type": "brand-new", "schema": SCHEMA + 7}),
    ],
)
def test_a_newer_schema_is_told_from_rubbish(body: bytes) -> None:
    with pytest.raises(CodecError, match="newer") as caught:
        decode(body)
    assert caught.value.reason is ParkReason.UNKNOWN_SCHEMA


def test_a_newer_schema_of_the_same_shape_is_not_read_either() -> None:
    mail = AcceptedMail("id", 0.0, "", (), Content(0), schema=SCHEMA + 1)
    with pytest.raises(CodecError, match="newer"):
        decode(encode(mail))


def test_a_field_that_this_version_does_not_know_is_ignored() -> None:
    mail = AcceptedMail("id", 0.0, "", (), Content(0))
    fields = msgspec.msgpack.decode(encode(mail)) | {"added_later": 1}
    assert decode(msgspec.msgpack.encode(fields)) == mail


def test_what_is_not_used_costs_nothing() -> None:
    mail = AcceptedMail("id", 0.0, "", (), Content(0))
    job = DeliveryJob("id", "mail", 0.0, "", (), Content(0), "one.test", ())
    for message in (mail, job):
        fields = msgspec.msgpack.decode(encode(message))
        assert not fields.keys() & {"schema", "dsn", "binary", "smtputf8", "tenant", "share"}
        assert not fields.keys() & {"require_tls", "authentic"}


def test_a_message_that_names_every_field_is_read_as_well() -> None:
    mail = AcceptedMail("id", 0.0, "", (), Content(0))
    defaults = {"tenant": "default", "message_class": "transactional", "eight_bit": False}
    defaults |= {"smtputf8": False, "dsn": None, "binary": False, "schema": PLAIN}
    fields = msgspec.msgpack.decode(encode(mail)) | defaults
    assert decode(msgspec.msgpack.encode(fields)) == mail


def test_a_pickle_is_only_bytes() -> None:
    with pytest.raises(CodecError):
        decode(pickle.dumps(["anything"]))
