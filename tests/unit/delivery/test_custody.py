"""What takes over from a job, and who holds its content then."""

from __future__ import annotations

from services.delivery.custody import successors
from services.delivery.decide import decide
from shared.broker.topology import DUE, PARKED
from shared.messages.codec import decode
from shared.messages.model import Content, DeliveryJob, Recipient
from shared.messages.outcome import Deferred, Failed
from shared.settings.model import DeliverySettings
from shared.smtp.replies import Reply

NO = Failed(Reply(550, "5.1.1", "no"), "mailbox")
LATER = Deferred(Reply(450, "4.2.0", "later"))


def test_a_parked_recipient_and_a_retried_one_share_the_blob_of_a_notification() -> None:
    recipients = (Recipient("a@b.test"), Recipient("c@b.test"))
    job = DeliveryJob("J", "M", 0.0, "", recipients, Content(9, blob="B"), "b.test", (), share=3)
    decision = decide(job, (NO, LATER), 1.0, DeliverySettings())
    following = successors(job, "lane", decision, b"", now=1.0, hostname="mta.test")
    jobs = {message.queue: decode(message.body) for message in following.messages}
    shares = [job.share for job in jobs.values() if isinstance(job, DeliveryJob)]
    assert set(jobs) == {DUE, PARKED}
    assert shares == [6, 6]
    assert not following.ended
