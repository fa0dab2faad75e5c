"""Writes `docs/events.md` from the types of events, so that the page cannot be out of date.

`make docs` prints the page into the file; a test compares the two.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from shared.events.codec import encode_event
from shared.events.model import KINDS, MOST_RECIPIENTS, SCHEMA, Hop, MailEvent, Tls

_WORDS = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}

EXAMPLE = MailEvent(
    schema=SCHEMA,
    event="delivered",
    id="a8f0c6a1b1f94f0ba8d5a5f0f1b2c3d4.1.delivered",
    at=1795709493.292,
    mail_id="1KHOEF0B2G3QD7V9PAK5N1C8TS",
    tenant="shop",
    class_="transactional",
    job_id="a8f0c6a1b1f94f0ba8d5a5f0f1b2c3d4",
    attempt=1,
    recipients=("anna@example.com",),
    lane="default",
    destination="example.com",
    site="mx.example.com",
    provider="other",
    reply="250 2.0.0 Ok: queued as 4XyZ",
    hop=Hop("mx.example.com", "192.0.2.25", 25, Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384")),
    queue_seconds=0.214,
)

INTRODUCTION = f"""\
# Events

This page is generated from `shared/events/model.py` (`make docs`); a test keeps it so.

What happens to each mail is told as it happens, one JSON object for each step. Settings are in
[`events`](configuration.md#events); what it costs, and why it is so, in [decision
0017](decisions/0017-events-beside-the-mail.md).

```sh
postroad events --follow                      # in colour, until Ctrl-C; or --json
postroad events --follow --tenant shop --event bounced --event expired
postroad message 1KHOEF0B2G3QD7V9PAK5N1C8TS    # one mail's whole story, where events are kept
```

## Three ways to have them

- **Ordinary**: told beside the mail on the topic exchange `postroad.events` (with the embedded
  broker through sockets), to whoever follows. They may be lost, which is counted
  (`postroad_dropped_events_total`). They never slow mail: collected for 20 ms, waited for by
  nobody.
- **Kept**: ordinary events in one SQLite file, `events.store`, for `postroad message ID` and
  `postroad events`.
- **Guaranteed**: those of the tenants in `events.guaranteed`, in the durable queue
  `postroad.events.guaranteed`, each stored with the next step of its mail. None is lost; a crash
  makes a second copy with the same `id`.

**Ordinary events** are published while somebody follows (`events.publish: demand`): an idle
pipeline tells nobody, at no cost. Followers of ours say once a second that they follow. Set
`always` when queues of your own are bound to the exchange, which nobody can see from outside.
Each process keeps up to `events.buffer_bytes` while the broker does not take them.

**On RabbitMQ** a message has one line or more of JSON, all with its routing key, as
`application/x-ndjson`: events of 20 ms that have the same key travel together.

```
<event>.<tenant>.<class>.<provider>         delivered.shop.transactional.google
```

What could mean something else in a key is %-encoded (`a.b` is `a%2Eb`), a word has at most 60
octets, and what is not known is `none`. So `bounced.#` are all bounces, `*.shop.#` all of one
tenant. **With the embedded broker** followers are processes of the same host and user; one that
is too slow misses datagrams, and nobody waits.

**Kept events** are written by `postroad event-store`, which `postroad run` starts when
`events.store.path` is set. The file has bounds (`max_events`, `max_age`); the oldest go. It
belongs on a local disk, and one process writes it. On RabbitMQ what is told while it is away
waits in the queue `postroad.events.store`, up to 64 MiB, with `events.publish: always`; on demand
nothing is told then.

**Guaranteed events** follow the rule of custody: the next step of a mail and the events of this
one are confirmed before the last is let go. For a mail that was delivered its event is what comes
next, so such a mail costs a durable write more. When the queue takes nothing, neither does the
mail of that tenant move. Somebody has to read the queue: it has no bound, the gauge
`postroad_guaranteed_events_waiting` tells what lies there, and [an
alert](runbooks/PostroadEventsUnread.md) when that grows.

```sh
postroad events --guaranteed --follow >> events.jsonl   # each leaves the queue once written
```

Readers have to expect an event twice, and those of a mail out of order across services: put them
in order by `at`. A message that cannot be read, and one that the broker itself parks (it failed
or killed its consumer 20 times), has no event: nobody could say whose it was.
`postroad_parked_messages_total` counts them. A guaranteed event whose readers die 20 times is
parked as well, and not lost.

## Versions

`schema` is {SCHEMA}. New fields and new kinds of event come without a new version, so leave out
what you do not know. A new version means that a field has another meaning, or is gone; it is
announced in the changelog. A reader of ours refuses a newer one, and says so.

What equals its default is left out: text is then empty, a number 0. `schema`, `event`, `id`,
`at`, `mail_id`, `tenant` and `class` are always there. Text from outside (addresses, replies) has
no control characters in the JSON, and replies are cut at 512 characters. No event has a content
or a subject.
"""


def events_page() -> str:
    """The whole page, as Markdown."""
    example = msgspec.json.format(encode_event(EXAMPLE), indent=2).decode()
    parts = [
        INTRODUCTION,
        _kinds(),
        _fields("The fields", MailEvent),
        _fields("`hop`", Hop),
        _fields("`tls`, `hop.tls`", Tls),
        f"## Example\n\n```json\n{example}\n```\n\nWith more than {MOST_RECIPIENTS} recipients "
        "there are several, alike but for `id` and `recipients`.\n",
    ]
    return "\n".join(parts)


def _kinds() -> str:
    lines = ["## The kinds\n", "| `event` | What happened |", "|---|---|"]
    lines += [f"| `{kind}` | {meaning} |" for kind, meaning in KINDS.items()]
    return "\n".join(lines) + "\n"


def _fields(title: str, kind: type[msgspec.Struct]) -> str:
    lines = [f"## {title}\n", "| Field | Type | Meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {words} | {meaning} |" for name, words, meaning in rows(kind)]
    return "\n".join(lines) + "\n"


def rows(kind: type[msgspec.Struct]) -> Iterator[tuple[str, str, str]]:
    """Each field as it is written: name, type, meaning. Raises ValueError for one without."""
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        annotation = hints[field.name]
        if get_origin(annotation) is not Annotated:
            raise ValueError(f"{kind.__name__}.{field.name} has no meaning")
        inner, meta = get_args(annotation)
        yield field.encode_name, _words(inner), meta.description


def _words(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {Union, types.UnionType}:
        return _words(arguments[0])
    if origin is tuple:
        return "list of texts"
    if origin is dict:
        return "mapping of names to numbers"
    return _WORDS.get(annotation, f"object, see `{annotation.__name__.lower()}`")


if __name__ == "__main__":
    sys.stdout.write(events_page())
