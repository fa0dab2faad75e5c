"""The loop's side of a consumption: deliveries to the handler, until it is stopped."""

from __future__ import annotations

from typing import Any, Protocol

from shared.broker.amqp.delivery import AmqpDelivery, Courier
from shared.broker.amqp.subscription import Subscription
from shared.broker.handing import hand
from shared.broker.interface import Handler


class Canceller(Courier, Protocol):
    """What a consumer needs of its broker."""

    async def cancel(self, subscription: Subscription) -> None:
        """Return when the broker sends no more to this subscription."""


class AmqpConsumer:
    """See `shared.broker.interface.Consumer`."""

    def __init__(self, queue: str, prefetch: int, handler: Handler, broker: Canceller) -> None:
        self._handler = handler
        self._broker = broker
        self._stopped = False
        self.subscription = Subscription(queue, prefetch, self._deliver)

    async def stop(self) -> None:
        """Take no more. What is prefetched but not handed out yet goes back uncounted."""
        if not self._stopped:
            self._stopped = True
            await self._broker.cancel(self.subscription)

    def _deliver(self, messages: list[Any], generation: int) -> None:
        for message in messages:
            delivery = AmqpDelivery(self.subscription, message, generation, self._broker)
            if self._stopped:
                delivery.release()
            else:
                hand(self._handler, delivery)
