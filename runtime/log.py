"""Log lines of every process in one format, our own and those of libraries alike."""

import logging
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from typing import Final, cast
from uuid import UUID

import orjson
import structlog
from structlog.typing import EventDict, Processor

from runtime.redaction import redact_text, redacted
from runtime.settings import Settings

# Libraries that tell more at INFO than an operator needs. Procrastinate logs the arguments of
# each job there.
_QUIET = ("procrastinate", "aiohttp.access", "asyncio", "twilio.http_client")


def configure(settings: Settings) -> None:
    """Send structlog's and the standard library's lines to stderr, as `log_format` says.

    `structlog.contextvars.bind_contextvars` adds keys to all lines of a task. Procrastinate and
    aiohttp's access log speak from WARNING on, or at level debug. Safe to call again.
    """
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    final: list[Processor]
    if settings.log_format == "json":
        final = [structlog.processors.format_exc_info, without_personal_data, _render_json]
    else:
        # Not the default formatter: it shows local variables, with people's data and passwords in
        # them, and takes seconds for one traceback.
        final = [
            structlog.processors.format_exc_info,
            without_personal_data,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ]

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(
            level if level <= logging.DEBUG else max(level, logging.WARNING)
        )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def without_personal_data(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Take secrets, addresses and phone numbers out of a line, its traceback included.

    The last step before a line is written, for ours and for those of libraries; an id or a number
    stays what it is.
    """
    return {name: _clean(name, held) for name, held in redacted(event).items()}


def _clean(name: object, held: object) -> object:
    if name in ("timestamp", "level", "logger") or held is None or isinstance(held, int | float):
        return held
    if isinstance(held, str):
        return redact_text(held)
    if isinstance(held, Mapping):
        return {_clean("", key): _clean(key, value) for key, value in held.items()}
    if isinstance(held, list):
        return [_clean("", value) for value in held]
    return redact_text(repr(held))


def _render_json(_logger: object, _method: str, event: EventDict) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


MOST_IDS: Final = 20


def some_ids(ids: Iterable[UUID]) -> list[str]:
    """Name the first of many rows that a line is about."""
    return [str(id_) for id_ in islice(ids, MOST_IDS)]


def log_context(**ids: UUID | str | None) -> AbstractContextManager[object]:
    """Have every line of the block, of libraries too, name what it is about."""
    return structlog.contextvars.bound_contextvars(
        **{name: str(value) for name, value in ids.items() if value is not None}
    )


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module: `log = get(__name__)`; `log.info("batch.claimed", steps=5)`."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(name))
