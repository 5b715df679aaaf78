"""The API as an aiohttp application, and as a server with or without a worker beside it."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import asyncpg
import uvloop
from aiohttp import web

from actors import registry as all_actions
from actors.integrations import Integrations
from api import (
    access_tokens,
    account,
    actions,
    audit,
    branches,
    campaigns,
    code,
    consents,
    contact_changes,
    contact_tags,
    contacts,
    courses,
    currency_rates,
    custom_fields,
    enrolments,
    erasure,
    errors_shown,
    events,
    executions,
    files,
    graphs,
    health,
    imports,
    integrations,
    mail_returns,
    mail_tracking,
    messenger,
    metrics,
    notes,
    notifications,
    notifications_live,
    operations,
    opportunities,
    opt_outs,
    palette,
    pipeline_stages,
    pipelines,
    references,
    sendgrid,
    tags,
    tasks,
    teams,
    templates,
    twilio,
    twilio_intake,
    unsubscribe,
    users,
    versions,
    webhook_secrets,
    why,
    workflow_settings,
    workflows,
)
from api.bodies import LARGEST_BODY
from api.calls import (
    LINK_KEYS,
    SERVICES,
    PublicRoute,
    Ring,
    RingEvents,
    RingOperations,
    Route,
    Services,
    add_routes,
    turns_at,
)
from api.credentials import Gate
from api.docs import docs_of
from api.gathered_drafts import DRAFTS, GatheredDrafts
from api.health import add_health
from api.mail_readers import READERS, Readers
from api.metrics import add_metrics
from api.middleware import identify_request, name_problems
from api.public_bells import ring_after
from runtime import log, tracing, worker
from runtime.bell import Bell
from runtime.bells import Bells
from runtime.collector import spare_what_stays
from runtime.database import create_pool, resolve_dsn
from runtime.house import House
from runtime.link_keys import LinkKeys
from runtime.registry import Registry
from runtime.secrets import vault_of
from runtime.settings import Settings
from runtime.versions import Versions
from sql.migrate import migrate

ROUTES: Final[tuple[Route, ...]] = (
    *workflows.ROUTES,
    *branches.ROUTES,
    *actions.ROUTES,
    *palette.ROUTES,
    *enrolments.ROUTES,
    *executions.ROUTES,
    *events.ROUTES,
    *contacts.ROUTES,
    *contact_changes.ROUTES,
    *contact_tags.ROUTES,
    *tags.ROUTES,
    *custom_fields.ROUTES,
    *campaigns.ROUTES,
    *courses.ROUTES,
    *pipelines.ROUTES,
    *pipeline_stages.ROUTES,
    *opportunities.ROUTES,
    *tasks.ROUTES,
    *notes.ROUTES,
    *users.ROUTES,
    *teams.ROUTES,
    *account.ROUTES,
    *integrations.ROUTES,
    *consents.ROUTES,
    *opt_outs.ROUTES,
    *erasure.ROUTES,
    *why.ROUTES,
    *workflow_settings.ROUTES,
    *operations.ROUTES,
    *code.ROUTES,
    *webhook_secrets.ROUTES,
    *files.ROUTES,
    *references.ROUTES,
    *versions.ROUTES,
    *graphs.ROUTES,
    *templates.ROUTES,
    *currency_rates.ROUTES,
    *imports.ROUTES,
    *access_tokens.ROUTES,
    *audit.ROUTES,
    *messenger.ROUTES,
    *mail_returns.ROUTES,
    *notifications.ROUTES,
)

PUBLIC_ROUTES: Final[tuple[PublicRoute, ...]] = (
    *errors_shown.PUBLIC_ROUTES,
    *files.PUBLIC_ROUTES,
    *twilio.PUBLIC_ROUTES,
    *unsubscribe.PUBLIC_ROUTES,
    *mail_tracking.PUBLIC_ROUTES,
    *sendgrid.PUBLIC_ROUTES,
    *messenger.PUBLIC_ROUTES,
    *notifications_live.PUBLIC_ROUTES,
)
"""What errors mean, what providers call back, and what links in messages lead to."""

OPERATIONAL: Final[tuple[PublicRoute, ...]] = (*health.DESCRIBED, *metrics.DESCRIBED)
"""What is described beside them; `add_health` and `add_metrics` serve it."""

# How long requests that are under way may take once the server is told to stop.
DRAIN_SECONDS: Final = 10.0
CANNOT_LISTEN: Final = 2

# Of a request: what our query strings may hold, percent-encoded. Beyond it aiohttp answers 400.
LONGEST_LINE: Final = 256 << 10

# How long a connection may go without a whole request head: idle, silent from the start, or with a
# head that comes byte by byte. aiohttp's own figure is an hour.
HEAD_SECONDS: Final = 75.0


def create_app(
    pool: asyncpg.Pool,
    registry: Registry,
    settings: Settings,
    ring: Ring,
    ring_events: RingEvents | None = None,
    *,
    ring_operations: RingOperations | None = None,
) -> web.Application:
    """Build the application; the pool stays the caller's.

    `ring` rings families after commits, `ring_events` for events that are to be handed on,
    `ring_operations` for operations; without these two they are found by the sweep.
    """
    app = web.Application(
        middlewares=[identify_request, name_problems],
        client_max_size=LARGEST_BODY,
        # Bodies are inflated by those who read them: see content_coding.
        handler_args={
            "max_line_size": LONGEST_LINE,
            "auto_decompress": False,
            "keepalive_timeout": HEAD_SECONDS,
        },
    )
    turns = turns_at(pool)
    gate = Gate(pool, settings, turns)
    house = House(pool, settings, vault_of(settings))
    app[SERVICES] = Services(
        pool,
        registry,
        settings,
        ring,
        ring_events or _no_bell,
        ring_operations or _no_bell,
        Versions(pool, registry),
        house,
        gate,
        turns,
    )
    app[LINK_KEYS] = LinkKeys(house)
    app[DRAFTS] = GatheredDrafts(pool, turns)

    async def ring_bells(bells: Bells) -> None:
        await ring_after(app[SERVICES], bells)

    app[READERS] = Readers(pool, ring_bells)
    app.on_cleanup.append(lambda _app: app[READERS].end())
    app.on_cleanup.append(lambda _app: gate.uses.written())
    app[twilio_intake.INTAKE] = twilio_intake.Intake(Integrations(house), pool, ring_bells)
    app.on_cleanup.append(lambda _app: app[twilio_intake.INTAKE].end())
    described: tuple[Route | PublicRoute, ...] = (*ROUTES, *PUBLIC_ROUTES, *OPERATIONAL)
    add_routes(app, (*ROUTES, *PUBLIC_ROUTES, *docs_of(described, registry)))
    notifications_live.add_live(app)
    add_health(app)
    add_metrics(app)
    app.cleanup_ctx.append(code.sandbox)
    return app


class _CannotListenError(Exception):
    """The address is taken, or is none of this machine."""


async def _no_bell() -> None:
    pass


def run(settings: Settings, with_worker: bool) -> int:
    """Serve until SIGINT or SIGTERM, then drain; with a worker in the same process if wanted.

    Exit code 0 after a signal, 1 when the worker ended by itself, 2 when the address is taken.
    """
    log.configure(settings)
    tracing.configure(settings, "callboard" if with_worker else "callboard-api")
    return uvloop.run(_run(settings, with_worker))


async def _run(settings: Settings, with_worker: bool) -> int:
    dsn = await resolve_dsn(settings)
    await migrate(dsn)
    stop = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    try:
        settings, listening = _with_its_port(settings)
        async with _serving(settings, dsn, listening) as address:
            sys.stdout.write(f"Callboard's API listens on {address}\n")
            sys.stdout.flush()
            return await _until_stopped(settings, dsn, stop, with_worker)
    except _CannotListenError as error:
        sys.stderr.write(f"callboard: {error}\n")
        return CANNOT_LISTEN


def _with_its_port(settings: Settings) -> tuple[Settings, socket.socket | None]:
    """Take a port where any will do, since links and callbacks have to name it."""
    if settings.api_port != 0:
        return settings, None
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    try:
        listening = socket.create_server((settings.api_host, 0), family=family)
    except OSError as error:
        raise _CannotListenError(f"the API cannot listen: {error.strerror}") from error
    return settings.model_copy(update={"api_port": listening.getsockname()[1]}), listening


@asynccontextmanager
async def _serving(
    settings: Settings, dsn: str, listening: socket.socket | None
) -> AsyncIterator[str]:
    """Serve inside the block and give the address; at its end requests under way are finished."""
    # All connections at once: the first requests should not have to wait for them.
    pool = await create_pool(
        dsn,
        settings,
        min_size=settings.database_pool_size,
        application_name="callboard api",
    )
    bell = Bell(pool, timedelta(milliseconds=settings.wake_bucket_ms))
    app = create_app(
        pool,
        all_actions,
        settings,
        bell.ring_families,
        bell.ring_events,
        ring_operations=bell.ring_operations,
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=DRAIN_SECONDS)
    await runner.setup()
    try:
        try:
            if listening is None:
                await web.TCPSite(runner, settings.api_host, settings.api_port).start()
            else:
                await web.SockSite(runner, listening).start()
        except OSError as error:
            raise _CannotListenError(f"the API cannot listen: {error.strerror}") from error
        spare_what_stays()
        host, port = runner.addresses[0][:2]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        await runner.cleanup()
        pool.terminate()


async def _until_stopped(
    settings: Settings, dsn: str, stop: asyncio.Event, with_worker: bool
) -> int:
    if not with_worker:
        await stop.wait()
        return 0
    # Returns once `stop` is set and what it had in hand is done; a raise ends the server too.
    await worker.work(settings, all_actions, None, dsn, stop)
    return 0 if stop.is_set() else 1
