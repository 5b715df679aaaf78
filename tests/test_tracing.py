"""Traces by OpenTelemetry: off and not even imported by default; no parameters in them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from cli.environment import ROOT
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from runtime import tracing
from runtime.settings import Settings
from tests.api_desk import open_desk
from tests.stand_ins import WorldWith, counterpart


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.stop()


def test_nothing_of_it_is_imported_by_default() -> None:
    code = (
        "import sys; sys.path[:0] = ['.', 'http']; import api.server, runtime.worker, actors;"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


async def test_requests_batches_effects_and_statements_have_spans(
    spans: InMemorySpanExporter, world_with: WorldWith, settings: Settings
) -> None:
    async with counterpart() as side:
        world = await world_with(side.registry())
        workflow = await world.workflow(
            ("add_note", {"content": "S3cret"}), ("webhook_call", {"calls": ["a"]})
        )
        contact = await world.contact(email="ada@example.com")
        async with open_desk(world.pool, settings) as desk:
            caller = await desk.caller()
            made = await caller.post("/api/v1/tags", {"name": "S3cret"})
            await caller.get(f"/api/v1/tags/{made['id']}")
        await world.run(workflow, contact)
    finished = spans.get_finished_spans()
    names = {span.name for span in finished}
    assert {"callboard.batch", "callboard.effect", "GET /api/v1/tags/{tag_id}"} <= names
    effect = next(span for span in finished if span.name == "callboard.effect")
    assert effect.attributes is not None
    assert effect.attributes["callboard.kind"] == "test.call"
    told = " ".join(span.to_json() for span in finished)
    assert "INSERT INTO" in told
    assert "S3cret" not in told
    assert "ada@example.com" not in told
