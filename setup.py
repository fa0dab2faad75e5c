"""Beside pyproject.toml, only for what cannot stand there: the hot path may be compiled.

POSTROAD_COMPILE=1 makes C of these modules with mypyc, as the image does; without it the wheel is
plain Python. What that gains, and what cannot be in the list, is in
docs/decisions/0022-compiling-the-hot-path.md.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import setup

COMPILED = """
services/delivery/admission.py
services/delivery/attempt.py
services/delivery/candidates.py
services/delivery/classify.py
services/delivery/client.py
services/delivery/crowds.py
services/delivery/custody.py
services/delivery/decide.py
services/delivery/dialogue.py
services/delivery/dispatching.py
services/delivery/envelope.py
services/delivery/handling.py
services/delivery/hop.py
services/delivery/line.py
services/delivery/opening.py
services/delivery/pacing.py
services/delivery/partitions.py
services/delivery/peers.py
services/delivery/placing.py
services/delivery/pool.py
services/delivery/repeats.py
services/delivery/report.py
services/delivery/routes.py
services/delivery/scheduler.py
services/delivery/secrecy.py
services/delivery/serving.py
services/delivery/site_state.py
services/delivery/straight.py
services/delivery/telling.py
services/delivery/turns.py
services/delivery/upload.py
services/delivery/usefulness.py
services/delivery/verified.py
services/delivery/waiting.py
services/delivery/work.py
services/ingress/acceptance.py
services/ingress/admission.py
services/ingress/budget.py
services/ingress/chunks.py
services/ingress/content.py
services/ingress/context.py
services/ingress/crowding.py
services/ingress/dialogue.py
services/ingress/exchange.py
services/ingress/hygiene.py
services/ingress/link.py
services/ingress/overload.py
services/ingress/patience.py
services/ingress/policy.py
services/ingress/senders.py
services/ingress/server.py
services/ingress/sessions.py
services/ingress/throttle.py
services/ingress/transaction.py
shared/broker/amqp/broker.py
shared/broker/amqp/consumer.py
shared/broker/amqp/consuming.py
shared/broker/amqp/delivery.py
shared/broker/amqp/frames.py
shared/broker/amqp/handover.py
shared/broker/amqp/ledger.py
shared/broker/amqp/link.py
shared/broker/amqp/publishing.py
shared/broker/amqp/settling.py
shared/broker/amqp/subscription.py
shared/broker/embedded/broker.py
shared/broker/embedded/consumer.py
shared/broker/embedded/engine.py
shared/broker/embedded/owners.py
shared/broker/embedded/records.py
shared/broker/embedded/store.py
shared/broker/embedded/subscriptions.py
shared/broker/embedded/writer.py
shared/broker/handing.py
shared/broker/portions.py
shared/log_text.py
shared/mail/headers.py
shared/mail/text.py
shared/mail/trace.py
shared/messages/ids.py
shared/plan/lanes.py
shared/smtp/commands.py
shared/smtp/data.py
shared/smtp/errors.py
shared/smtp/lines.py
shared/smtp/replies.py
shared/smtp/server_replies.py
shared/tally.py
"""

GROUPS = ("shared", "services/delivery", "services/ingress")
"""Each becomes one library; they are compiled side by side."""

extensions = []
# Not while only the metadata is asked for: it takes as long as mypy.
if os.environ.get("POSTROAD_COMPILE") == "1" and "bdist_wheel" in sys.argv:
    from mypyc.build import mypycify

    modules = COMPILED.split()
    extensions = mypycify(
        ["--config-file=pyproject.toml", *modules],
        separate=[
            ([name for name in modules if name.startswith(group)], f"postroad_{Path(group).name}")
            for group in GROUPS
        ],
        opt_level="2",
        debug_level="0",
    )

setup(ext_modules=extensions, options={"build_ext": {"parallel": os.cpu_count()}})
