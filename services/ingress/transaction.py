"""What MAIL and RCPT have said so far, until the content ends it."""

from __future__ import annotations

from services.ingress.chunks import ChunkedContent
from shared.smtp.data import DataFault
from shared.smtp.parameters import Body, MailParameters, RecipientParameters
from shared.smtp.paths import ForwardPath, ReversePath


class Transaction:
    """What MAIL and RCPT have said so far."""

    __slots__ = ("began", "chunks", "parameters", "recipients", "reverse_path", "wishes")

    def __init__(self, reverse_path: ReversePath, parameters: MailParameters) -> None:
        self.reverse_path = reverse_path
        self.parameters = parameters
        self.recipients: list[ForwardPath] = []
        self.wishes: dict[int, RecipientParameters] = {}
        """By the number of the recipient, where there are any."""
        self.chunks: ChunkedContent | None = None
        self.began = 0.0
        """When the content did, in seconds since the epoch; 0 where nobody wants to know."""

    def chunked(self) -> bytes | DataFault:
        """The content that came in chunks."""
        assert self.chunks is not None
        return self.chunks.result(binary=self.parameters.body is Body.BINARY_MIME)
