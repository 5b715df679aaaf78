"""The fake SMTP server in a process of its own, for benchmarks; ends by SIGTERM.

Prints one line: its port, and where its counts are read (`GET` gives JSON). It counts mails and
keeps none of them.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from aiohttp import web

from tests.counterparts.smtp.server import PostOffice, post_office


def counting(office: PostOffice) -> web.Application:
    """Show the counts over HTTP."""

    async def counts(_request: web.Request) -> web.Response:
        return web.json_response(office.counts())

    app = web.Application()
    app.router.add_get("/counts", counts)
    return app


async def main() -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with post_office() as office:
        office.keeps_mails = False
        runner = web.AppRunner(counting(office), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        sys.stdout.write(f"{office.port} http://127.0.0.1:{runner.addresses[0][1]}/counts\n")
        sys.stdout.flush()
        await stop.wait()
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
