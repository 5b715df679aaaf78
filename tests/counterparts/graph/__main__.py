"""The fake Graph API in a process of its own; prints its address, ends by SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys

from tests.counterparts.graph.server import graph


async def main() -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with graph() as fake:
        sys.stdout.write(f"{fake.url}\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
