"""Everything that watches a session and speaks to it, around it in one block: control socket,
alerts, telemetry, log.

with logs.logged(folder, alias=…, version=…, session=…):
    async with attended(supervisor, folder, operations):
        await supervisor.run()
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mcl.config import schema
from mcl.live.ops.alert_channels import channels
from mcl.live.ops.alerts import AlertDispatcher
from mcl.live.ops.control_socket import listening
from mcl.live.ops.metrics import SessionCounters, exposed
from mcl.live.ops.session_log import log
from mcl.live.ops.status_poller import StatusPoller
from mcl.live.status import SessionHandle


@dataclass(frozen=True)
class Operations:
    """The settings of alerts and telemetry; none of them changes what a session decides."""

    alerts: schema.Alerts = field(default_factory=schema.Alerts)
    telemetry: schema.Telemetry = field(default_factory=schema.Telemetry)


@asynccontextmanager
async def monitor(
    session: SessionHandle, folder: Path, operations: Operations
) -> AsyncIterator[int | None]:
    """Answer questions and commands while the block runs. Yields the port of the telemetry, None
    without one.

    The caller holds `control.alone(folder)`. LiveError before the block: an alert channel or the
    port cannot work.
    """
    alerts, counters = (
        AlertDispatcher(operations.alerts, channels(operations.alerts)),
        SessionCounters(session.status()),
    )
    async with AsyncExitStack() as stack:
        # the last ones are sent without holding up the loop
        stack.push_async_callback(asyncio.to_thread, alerts.close)
        poller = await stack.enter_async_context(StatusPoller(session, alerts, counters))
        await stack.enter_async_context(listening(poller, folder))
        port = await stack.enter_async_context(exposed(poller, counters, operations.telemetry))
        if port is not None:
            log.info("telemetry", url=f"http://{operations.telemetry.host}:{port}/metrics")
        yield port
