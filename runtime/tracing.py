"""Traces by OpenTelemetry, for those who want them: an extra of which nothing is imported without.

`CALLBOARD_OTEL=true` turns them on; where they go is said by OpenTelemetry's own OTEL_* variables.
There is a span for each request of the API (named by its route), for each batch, for each effect
that is sent, and for each statement, without its parameters.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from runtime.settings import Settings

_ASYNCPG = "opentelemetry.instrumentation.asyncpg"

_tracer: Any = None


class TracingError(Exception):
    """Traces are wanted and OpenTelemetry is not installed."""


def configure(settings: Settings, service: str) -> None:
    """Send traces from here on if the settings say so; TracingError without the extra `otel`."""
    if not settings.otel:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise TracingError(
            f"CALLBOARD_OTEL is set, and the extra otel is not installed ({error.name})"
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use(provider)


def use(provider: Any) -> None:
    """Trace with this provider: our own spans, requests of the API, and statements."""
    global _tracer  # noqa: PLW0603 - one for the process, as in OpenTelemetry itself
    _tracer = provider.get_tracer("callboard")
    # Parameters are people's data: they stay out.
    instrumentor = importlib.import_module(_ASYNCPG).AsyncPGInstrumentor(capture_parameters=False)
    instrumentor.instrument(tracer_provider=provider)


def stop() -> None:
    """Trace no more; for tests."""
    global _tracer  # noqa: PLW0603
    _tracer = None
    importlib.import_module(_ASYNCPG).AsyncPGInstrumentor().uninstrument()


def request_span(name: str, headers: Mapping[str, str]) -> AbstractContextManager[Any]:
    """Give the span of a request, in the trace that its headers name (W3C traceparent)."""
    if _tracer is None:
        return nullcontext()
    propagate = importlib.import_module("opentelemetry.propagate")
    kinds = importlib.import_module("opentelemetry.trace").SpanKind
    begun: AbstractContextManager[Any] = _tracer.start_as_current_span(
        name, context=propagate.extract(headers), kind=kinds.SERVER
    )
    return begun


def span(name: str, **attributes: str) -> AbstractContextManager[Any]:
    """Give a span to work in; costs next to nothing when there are no traces."""
    if _tracer is None:
        return nullcontext()
    told = {f"callboard.{key}": value for key, value in attributes.items()}
    begun: AbstractContextManager[Any] = _tracer.start_as_current_span(name, attributes=told)
    return begun
