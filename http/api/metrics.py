"""Metrics for Prometheus: the API's requests, this process's work, and what stands in the database.

`/metrics` needs no token and tells nothing of any account; who may reach it is decided by where the
API listens and by the proxy before it. A worker alone serves its own counts where
CALLBOARD_METRICS_PORT says.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import asyncpg
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from api.calls import SERVICES, PublicRoute
from api.shown import Download
from runtime import log, tracing
from runtime.measures import PROCESS
from sql import load

queries = load("metrics")
logger = log.get(__name__)

# What several scrapers see of the database within this time is the same.
FRESH_SECONDS: Final = 5.0

# What each gauge counts, and what its label is.
_GAUGES: Final = {
    "ready_steps": ("Steps that are ready and may be claimed.", "family"),
    "held_steps": ("Steps that are ready and held.", "family"),
    "ready_effects": ("Effects that are ready and may be claimed.", "family"),
    "held_effects": ("Effects that are ready and held.", "family"),
    "oldest_ready_seconds": ("How long the oldest that may be claimed has been ready.", "family"),
    "effects_in_flight": ("Effects in a worker's hand.", "family"),
    "sleeping_steps_estimated": ("Steps that sleep, as the planner last estimated.", None),
    "waiting_steps_estimated": ("Steps that wait for events, as the planner estimated.", None),
    "held_lanes": ("Lanes that may not run now.", "reason"),
    "circuit_breakers": ("Circuit breakers that have had something to count.", "state"),
    "tickets": ("Procrastinate jobs that nobody has fetched yet.", "queue"),
    "undispatched_events": ("Domain events that are to be handed on.", None),
    "operations": ("Bulk operations that have not ended.", "status"),
    "workers": ("Workers whose lease holds.", None),
}

Row = tuple[str, str, float]


class Measures(Collector):
    """What one application counts, and the last it saw of the database."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "callboard_api_requests",
            "Requests, by route, method and status.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "callboard_api_request_seconds",
            "How long requests took.",
            ["route", "method"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 10),
            registry=self.registry,
        )
        self._rows: Sequence[Row] = ()
        self._seen_at = -FRESH_SECONDS
        self._looking = asyncio.Lock()
        self.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Give the gauges of the database; called by the registry."""
        families = {
            name: GaugeMetricFamily(f"callboard_{name}", text, labels=[label] if label else [])
            for name, (text, label) in _GAUGES.items()
        }
        values: dict[tuple[str, str], float] = defaultdict(float)
        for name, label, value in self._rows:
            values[name, label] += value
        for (name, label), value in values.items():
            families[name].add_metric([label] if _GAUGES[name][1] else [], value)
        yield from families.values()

    async def look(self, pool: asyncpg.Pool) -> None:
        """Look into the database, unless somebody has just done so.

        Gauges that cannot be seen are left out.
        """
        async with self._looking:
            if time.monotonic() - self._seen_at < FRESH_SECONDS:
                return
            try:
                rows = await pool.fetch(queries.gauges)
                self._rows = [(row["gauge"], row["label"] or "", row["value"]) for row in rows]
            except Exception:  # whatever ails the database, the counts are still told
                logger.warning("metrics.database_not_seen", exc_info=True)
                self._rows = ()
            self._seen_at = time.monotonic()


MEASURES: Final = web.AppKey("measures", Measures)


@web.middleware
async def count_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count and trace a request by its route's template; what fits no route is one of them."""
    began = time.monotonic()
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "unmatched"
    # Methods that anybody may make up would make labels without end.
    method = request.method if request.method in _METHODS else "other"
    measures, status = request.app[MEASURES], 500
    try:
        with tracing.request_span(f"{method} {route}", request.headers) as span:
            response = await handler(request)
            status = response.status
            if span is not None:
                span.set_attribute("http.response.status_code", status)
        return response
    finally:
        measures.requests.labels(route, method, str(status)).inc()
        measures.seconds.labels(route, method).observe(time.monotonic() - began)


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


async def show(request: web.Request) -> web.Response:
    """Tell everything that this process counts, and what stands in the database."""
    measures = request.app[MEASURES]
    await measures.look(request.app[SERVICES].pool)
    # Some milliseconds for many labels: beside the loop.
    page = await asyncio.to_thread(_page, [measures.registry, PROCESS])
    return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _page(registries: Sequence[CollectorRegistry]) -> bytes:
    return b"".join(generate_latest(registry) for registry in registries)


DESCRIBED: Final = (PublicRoute("GET", "/metrics", show, {200: Download(("text/plain",))}),)
"""For the OpenAPI document."""


def add_metrics(app: web.Application) -> None:
    """Put the page into an application, and count its requests before anything else is done."""
    app[MEASURES] = Measures()
    app.middlewares.insert(0, count_request)
    app.router.add_get("/metrics", show)
