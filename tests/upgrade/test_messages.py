"""Old and new messages side by side: what each version wrote is read, none is misled by ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.messages import model
from shared.messages.codec import decode, encode
from shared.messages.model import DEMANDING, PLAIN, SCHEMA, SECRET
from tests.upgrade.frozen import first
from tests.upgrade.samples import fields_of, samples

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
NEW = samples(model, fields_of(model) | {"Limits": ["demanding"]})
UNDERSTOOD = [name for name in NEW if not name.endswith(("_binary", "_deliver_by", "_require_tls"))]
DEMANDS = [name for name in NEW if name not in UNDERSTOOD]


def recorded() -> list[Any]:
    return [
        pytest.param(golden["fields"], name, bytes.fromhex(body), id=f"{path.stem}-{name}")
        for path in GOLDEN
        for golden in [json.loads(path.read_text())]
        for name, body in golden["messages"].items()
    ]


def plain(value: Any) -> Any:
    """A message as values that do not depend on its version; octets as bytes."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value))


def test_there_are_records_of_each_version() -> None:
    assert len(GOLDEN) >= 6
    assert len(recorded()) > 40


@pytest.mark.parametrize(("fields", "name", "body"), recorded())
def test_what_an_older_version_wrote_means_the_same_now(
    fields: dict[str, list[str]], name: str, body: bytes
) -> None:
    meant = samples(model, fields)[name]
    # The first versions with binary contents did not mark them.
    found = decode(body)
    assert msgspec.structs.replace(found, schema=meant.schema) == meant
    assert found.schema in {PLAIN, DEMANDING, SECRET}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_the_first_version_reads_what_we_write_as_far_as_it_goes(name: str) -> None:
    old = first.decode(encode(NEW[name]))
    new = plain(NEW[name])
    new["content" if "content" in new else "kind"] = plain(old)[
        "content" if "content" in new else "kind"
    ]
    common = plain(old).keys() & new.keys() - {"recipients"}
    assert {key: plain(old)[key] for key in common} == {key: new[key] for key in common}
    if not isinstance(old, first.Event):
        assert bytes(old.content.inline) == bytes(NEW[name].content.inline)
        assert [one.address for one in old.recipients] == [
            one.address for one in NEW[name].recipients
        ]


@pytest.mark.parametrize("name", DEMANDS)
def test_the_first_version_parks_what_it_would_damage(name: str) -> None:
    with pytest.raises(first.CodecError) as parked:
        first.decode(encode(NEW[name]))
    assert parked.value.reason is first.ParkReason.UNKNOWN_SCHEMA


def test_the_version_of_now_is_among_the_records() -> None:
    """Whoever adds a field records it: `python -m tests.upgrade.record NAME`."""
    newest = json.loads(GOLDEN[-1].read_text())["fields"]
    del newest["Limits"]
    assert newest == fields_of(model)


def test_no_default_has_changed_since_a_version_left_it_out() -> None:
    """A field that equals its default is not written: the default is part of the format."""
    sparse = msgspec.msgpack.encode(
        {
            "type": "job",
            "id": "i",
            "mail_id": "m",
            "accepted_at": 1.0,
            "reverse_path": "",
            "recipients": [],
            "content": {"size": 0, "inline": b"", "blob": ""},
            "destination": "d",
            "exchangers": [],
        }
    )
    job = decode(sparse)
    assert isinstance(job, model.DeliveryJob)
    assert (job.static, job.site, job.provider, job.share) == (False, "", "other", 1)
    assert (job.attempt, job.turn, job.tenant) == (0, 0.0, "default")
    assert job.message_class is model.MessageClass.TRANSACTIONAL
    assert (job.eight_bit, job.smtputf8, job.dsn) == (False, False, None)
    assert (job.binary, job.deliver_by, job.traceparent, job.schema) == (False, None, "", 1)
    assert (job.require_tls, job.authentic) == (False, False)
    assert SCHEMA == 3, "a new schema needs records, and a line in docs/upgrading.md"
