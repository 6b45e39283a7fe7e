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
from mcl.live.ops.alerts import Alerts
from mcl.live.ops.control_socket import listening
from mcl.live.ops.metrics import Tally, exposed
from mcl.live.ops.session_log import log
from mcl.live.ops.status_poller import Watch
from mcl.live.status import Desk


@dataclass(frozen=True)
class Operations:
    """How a session is watched; none of it changes what it decides."""

    alerts: schema.Alerts = field(default_factory=schema.Alerts)
    telemetry: schema.Telemetry = field(default_factory=schema.Telemetry)


@asynccontextmanager
async def attended(desk: Desk, folder: Path, operations: Operations) -> AsyncIterator[int | None]:
    """While the block runs the desk can be asked and told. Yields the port of the telemetry, None
    without one.

    The caller holds `control.alone(folder)`. LiveError before the block: an alert channel or the
    port cannot work.
    """
    alerts, tally = Alerts(operations.alerts, channels(operations.alerts)), Tally(desk.status())
    async with AsyncExitStack() as stack:
        # the last ones are sent without holding up the loop
        stack.push_async_callback(asyncio.to_thread, alerts.close)
        watch = await stack.enter_async_context(Watch(desk, alerts, tally))
        await stack.enter_async_context(listening(watch, folder))
        port = await stack.enter_async_context(exposed(watch, tally, operations.telemetry))
        if port is not None:
            log.info("telemetry", url=f"http://{operations.telemetry.host}:{port}/metrics")
        yield port
