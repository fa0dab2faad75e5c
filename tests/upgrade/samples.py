"""The messages that are recorded of each version: what it can express of these, no more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any

TEXT = b"Subject: upgrade\r\n\r\n.one line\r\n\xff\x00 and octets\r\n"

Fields = Mapping[str, Collection[str]]
"""The fields of each Struct of one version, by its name."""


def fields_of(model: ModuleType) -> dict[str, list[str]]:
    """Which fields the Structs of a version have."""
    return {
        name: list(thing.__struct_fields__)
        for name, thing in vars(model).items()
        if hasattr(thing, "__struct_fields__") and thing.__module__ == model.__name__
    }


class Builder:
    """Builds Structs of `model`, leaving out what `fields` does not have."""

    def __init__(self, model: ModuleType, fields: Fields) -> None:
        self._model = model
        self._fields = fields

    def knows(self, struct: str, field: str) -> bool:
        return field in self._fields.get(struct, ())

    def make(self, struct: str, **values: Any) -> Any:
        known = {name: value for name, value in values.items() if self.knows(struct, name)}
        return getattr(self._model, struct)(**known)

    def message_class(self, name: str) -> Any:
        return self._model.MessageClass(name)


def samples(model: ModuleType, fields: Fields) -> dict[str, Any]:
    """Messages by name; those that the version cannot express are not among them."""
    build = Builder(model, fields)
    found = _mails(build) | _jobs(build)
    found["event"] = build.make(
        "Event", kind="deferred", at=1.5, mail_id="mail-1", job_id="job-1", attempt=2
    )
    return found


def _envelope(build: Builder) -> dict[str, Any]:
    return {
        "accepted_at": 1_700_000_000.25,
        "reverse_path": "sender@example.com",
        "recipients": (
            build.make("Recipient", address="one@example.net", notify="NEVER", orcpt="rfc822;a"),
            build.make("Recipient", address="zwei@bücher.example"),
        ),
        "content": build.make("Content", size=len(TEXT), inline=memoryview(TEXT)),
    }


def _mails(build: Builder) -> dict[str, Any]:
    plain = _envelope(build)
    stored = build.make("Content", size=3_000_000, blob="mail-2")
    told = {**plain, "reverse_path": "", "content": stored, "tenant": "shop", "eight_bit": True}
    told |= {"message_class": build.message_class("bulk"), "smtputf8": True}
    found = {
        "mail": build.make("AcceptedMail", id="mail-1", **plain),
        "mail_stored": build.make("AcceptedMail", id="mail-2", **told),
    }
    return found | _demanding(build, "AcceptedMail", {"id": "mail-3", **plain})


def _jobs(build: Builder) -> dict[str, Any]:
    exchangers = (
        build.make("MailExchanger", preference=10, host="mx1.example.net"),
        build.make("MailExchanger", preference=20, host="192.0.2.7", port=2525),
    )
    plain: dict[str, Any] = {"id": "job-1", "mail_id": "mail-1", "destination": "example.net"}
    plain |= {"exchangers": exchangers, **_envelope(build)}
    again = {**plain, "static": True, "site": "mx1.example.net", "provider": "google"}
    again |= {"share": 4, "attempt": 3, "turn": 1_700_000_111.5, "tenant": "shop"}
    found = {
        "job": build.make("DeliveryJob", **plain),
        "job_again": build.make("DeliveryJob", **again),
    }
    return found | _demanding(build, "DeliveryJob", plain)


def _demanding(build: Builder, struct: str, plain: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    schema = {"schema": 2} if build.knows("Limits", "demanding") else {}
    name = {"AcceptedMail": "mail", "DeliveryJob": "job"}[struct]
    if build.knows(struct, "dsn"):
        wishes = build.make("DsnWishes", ret="FULL", envid="id+2B1", told_of_delay=True)
        found[f"{name}_dsn"] = build.make(struct, **plain, dsn=wishes)
    if build.knows(struct, "traceparent"):
        span = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        found[f"{name}_traced"] = build.make(struct, **plain, traceparent=span)
    if build.knows(struct, "binary"):
        found[f"{name}_binary"] = build.make(struct, **plain, binary=True, **schema)
    if build.knows(struct, "deliver_by"):
        by = build.make("DeliverBy", deadline=1_700_000_600.0, returns=True, traced=True)
        found[f"{name}_deliver_by"] = build.make(struct, **plain, deliver_by=by, **schema)
    if build.knows(struct, "require_tls"):
        found[f"{name}_require_tls"] = build.make(
            struct, **plain, require_tls=True, authentic=True, schema=3
        )
    return found
