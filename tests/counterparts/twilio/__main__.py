"""The fake Twilio in a process of its own, for benchmarks; prints its address, ends by SIGTERM.

No callbacks are sent from here.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from tests.counterparts.twilio.server import twilio


async def main() -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with twilio() as fake:
        fake.callbacks.are_sent = False
        sys.stdout.write(f"{fake.url}\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
