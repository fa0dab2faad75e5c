from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.demo.reports import (
    Arrived,
    Bounced,
    Listening,
    Report,
    failed_recipients,
    read_report,
    write_report,
)

DSN = b"""MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status; boundary=B\r
\r
--B\r
Content-Type: text/plain\r
\r
Sorry.\r
--B\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mta.test\r
\r
Final-Recipient: rfc822; nobody@x.test\r
Action: failed\r
Status: 5.1.1\r
\r
Final-Recipient: rfc822; slow@x.test\r
Action: delayed\r
Status: 4.0.0\r
\r
Final-Recipient: RFC822;gone@x.test\r
Action: Failed\r
Status: 5.1.1\r
\r
--B--\r
"""


def test_a_dsn_tells_its_failed_recipients_only() -> None:
    assert failed_recipients(DSN) == ("nobody@x.test", "gone@x.test")


def test_other_mail_tells_of_no_failure() -> None:
    assert failed_recipients(b"Subject: hello\r\n\r\nFinal-Recipient: rfc822; a@b\r\n") == ()


@given(st.binary())
def test_any_content_is_read_without_an_error(content: bytes) -> None:
    failed_recipients(content)


@pytest.mark.parametrize(
    "report",
    [
        Listening({"a.test": 1}),
        Arrived("m1", ("a@x", "b@x"), ("b@x",), 1.5, True),
        Bounced("m1", ("a@x",)),
    ],
)
def test_reports_are_lines_that_read_as_they_were_written(report: Report) -> None:
    line = write_report(report)
    assert line.count(b"\n") == 1
    assert read_report(line) == report
