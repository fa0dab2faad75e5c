from __future__ import annotations

import hashlib
from random import Random

from services.demo.plan import (
    DIGEST_HEADER,
    LARGEST,
    SCRIPTS,
    SMALLEST,
    Contents,
    must_bounce,
    plan_messages,
)
from services.demo.script import NO_SUCH_MAILBOX

PLAN = plan_messages("run", 2000, Random(1))


def test_the_same_seed_gives_the_same_plan() -> None:
    assert plan_messages("run", 50, Random(7)) == plan_messages("run", 50, Random(7))


def test_the_plan_has_every_kind_of_recipient_and_one_to_five_a_message() -> None:
    assert {len(planned.recipients) for planned in PLAN} == {1, 2, 3, 4, 5}
    assert all(len(set(planned.recipients)) == len(planned.recipients) for planned in PLAN)
    everyone = [path for planned in PLAN for path in planned.recipients]
    assert {path.rpartition("@")[2] for path in everyone} == set(SCRIPTS) - {"sender.test"}
    assert any(path.startswith("later") for path in everyone)
    assert any(map(must_bounce, everyone))


def test_sizes_lie_between_1_and_200_kilobytes() -> None:
    sizes = [planned.size for planned in PLAN]
    assert min(sizes) >= SMALLEST
    assert max(sizes) <= LARGEST
    assert max(sizes) > 65536 > min(sizes)


def test_the_plan_and_the_scripts_agree_on_who_is_refused() -> None:
    for planned in PLAN:
        for path in planned.recipients:
            reply = SCRIPTS[path.rpartition("@")[2]].reply_to_recipient(path)
            assert (reply == NO_SUCH_MAILBOX) == must_bounce(path)


def test_contents_carry_their_digest_and_clean_line_ends() -> None:
    contents = Contents(Random(1), "Thu, 1 Jan 1970 00:00:00 -0000")
    for planned in PLAN[:50]:
        content = contents.build(planned)
        header, _, body = content.partition(b"\r\n\r\n")
        digest = hashlib.sha256(body).hexdigest()
        assert f"{DIGEST_HEADER}: {digest}".encode() in header
        assert content.replace(b"\r\n", b"").find(b"\n") < 0
        assert abs(len(body) - planned.size) < 100
        assert max(map(len, content.split(b"\r\n"))) <= 998


def test_some_lines_begin_with_a_dot() -> None:
    contents = Contents(Random(1), "now")
    assert any(b"\r\n.." in contents.build(planned) for planned in PLAN[:20])
