"""The one place that decides whether a message may go, and writes down why.

Every channel's effect type has `check_messages` as its check, and every message's request bears
its terms (`terms`): its purpose and, for texts and calls, the quiet hours that it respects.
What is looked at, in this order, and whom it stops:

| check | marketing | transactional | internal |
|---|---|---|---|
| contact: was erased | suppressed | suppressed | |
| integration: disabled or removed | suppressed | suppressed | suppressed |
| opt_out: of the address (unsubscribed: marketing alone) | suppressed | suppressed | suppressed |
| do_not_disturb: of the contact, on this channel | suppressed | suppressed | |
| consent: withdrawn, or missing where the account asks for it | suppressed | | |
| quiet_hours | put off | put off | put off |

Internal messages go to users of the account, not to the contact that they speak of.
The statutory hours of the United States (47 CFR 64.1200(c)(1)) are a floor under the configured
ones for marketing texts and calls to their numbers, unless consent is on record: who has given
it is not solicited (64.1200(f)(15)). Where a message is not to respect quiet hours at all, whoever
configured it so answers for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import asyncpg

from actors.quiet_hours import (
    STATUTORY,
    Window,
    is_us_number,
    next_allowed,
    zone_named,
    zones_of_number,
)
from runtime.database import Connection
from runtime.effect import Effect, Go, PutOff, Suppress, Verdict
from sql import load

queries = load("message_permission")

Channel = Literal["email", "sms", "voice", "messenger"]
Purpose = Literal["marketing", "transactional", "internal"]

CHANNELS: Final[tuple[Channel, ...]] = ("email", "sms", "voice", "messenger")
BY_PHONE: Final = frozenset({"sms", "voice"})

PERMISSION: Final = "permission"
"""The key of a request under which its terms stand."""

Row = asyncpg.Record | Mapping[str, Any]
Finding = dict[str, Any]


def terms(
    purpose: Purpose,
    quiet_hours: tuple[time, time] | None = None,
    time_zone: str | None = None,
) -> dict[str, Any]:
    """The terms of a message, to stand in its effect's request under PERMISSION.

    `quiet_hours`: begin and end, as the clock of whoever is written to shows them; None: any hour.
    `time_zone`: of that clock, where it is known of a user; that of contacts is found.
    """
    hours = None
    if quiet_hours is not None:
        hours = {"start": quiet_hours[0].isoformat(), "end": quiet_hours[1].isoformat()}
        if time_zone is not None:
            hours["time_zone"] = time_zone
    return {"purpose": purpose, "quiet_hours": hours}


async def check_messages(
    db: Connection, effects: Sequence[Effect], now: datetime
) -> Sequence[Verdict]:
    """Decide on messages of any channels, in one statement; the check of their effect types."""
    rows = await db.fetch(
        queries.look,
        [e.account_id for e in effects],
        [e.contact_id for e in effects],
        [e.channel for e in effects],
        [e.address for e in effects],
        [e.integration_id for e in effects],
    )
    return [decide(effect, row, now) for effect, row in zip(effects, rows, strict=True)]


@dataclass(slots=True)
class Case:
    """One message to be decided on: what `look` has found on it, and what was made of that."""

    effect: Effect
    row: Row
    now: datetime
    purpose: str
    findings: list[Finding] = field(default_factory=list)

    def go(self) -> Go:
        """It may go."""
        return Go(self._record("go", None))

    def suppressed(self, code: str) -> Suppress:
        """It may never go."""
        return Suppress(code, self._record("suppressed", code))

    def put_off(self, until: datetime, reason: str) -> PutOff:
        """It may not go yet."""
        return PutOff(until, reason, {**self._record("put_off", reason), "until": _text(until)})

    def _record(self, verdict: str, reason: str | None) -> dict[str, Any]:
        return {
            "verdict": verdict,
            "reason": reason,
            "at": _text(self.now),
            "channel": self.effect.channel,
            "purpose": self.purpose,
            "is_test": self.row["is_test"],
            "checks": self.findings,
        }


def decide(effect: Effect, row: Row, now: datetime) -> Verdict:
    """Decide on one message by what `look` has found; the verdict bears its record."""
    asked = effect.request.get(PERMISSION) or {}
    case = Case(effect, row, now, asked.get("purpose", "marketing"))
    for look in _LOOKS:
        if (found := look(case.effect, case.row, case.purpose)) is not None:
            case.findings.append(found)
            if not found["passed"]:
                return case.suppressed(found["code"])
    windows = _windows(case, asked.get("quiet_hours"))
    return _by_the_clock(case, windows, asked["quiet_hours"]) if windows else case.go()


def _contact(effect: Effect, row: Row, purpose: str) -> Finding | None:
    if effect.contact_id is None or purpose == "internal":
        return None
    erased = row["erased_at"]
    passed = row["has_contact"] and erased is None
    return _finding("contact", passed, "contact_erased", erased_at=_text(erased))


def _integration(effect: Effect, row: Row, _purpose: str) -> Finding | None:
    if effect.integration_id is None:
        return None
    removed, disabled = row["deleted_at"], row["disabled_at"]
    code = "integration_removed" if removed else "integration_disabled"
    return _finding(
        "integration",
        removed is None and disabled is None,
        code,
        integration_id=str(effect.integration_id),
        disabled_at=_text(disabled),
        removed_at=_text(removed),
    )


def _opt_out(effect: Effect, row: Row, purpose: str) -> Finding | None:
    if effect.address is None:
        return None
    if row["opted_out_at"] is None:
        return _finding("opt_out", True, "opted_out")
    return _finding(
        "opt_out",
        row["scope"] == "marketing" and purpose != "marketing",
        "opted_out",
        opted_out_at=_text(row["opted_out_at"]),
        because=row["opt_out_reason"],
        scope=row["scope"],
    )


def _do_not_disturb(effect: Effect, row: Row, purpose: str) -> Finding | None:
    if purpose == "internal" or not row["has_contact"]:
        return None
    channels = list(row["do_not_disturb"])
    passed = effect.channel not in channels
    return _finding("do_not_disturb", passed, "do_not_disturb", channels=channels)


def _consent(effect: Effect, row: Row, purpose: str) -> Finding | None:
    if purpose != "marketing" or effect.contact_id is None:
        return None
    is_given, is_needed = row["consent_is_given"], row["needs_consent"]
    code = "no_consent" if is_given is None else "consent_withdrawn"
    return _finding(
        "consent",
        is_given or (is_given is None and not is_needed),
        code,
        is_required=is_needed,
        is_given=is_given,
        source=row["consent_source"],
        at=_text(row["consent_at"]),
    )


_LOOKS: Final = (_contact, _integration, _opt_out, _do_not_disturb, _consent)


def _windows(case: Case, hours: Mapping[str, str] | None) -> list[Window]:
    if hours is None:
        return []
    windows = [Window(time.fromisoformat(hours["start"]), time.fromisoformat(hours["end"]))]
    is_solicitation = case.purpose == "marketing" and not case.row["consent_is_given"]
    by_phone = case.effect.channel in BY_PHONE
    if is_solicitation and by_phone and is_us_number(case.effect.address or ""):
        windows.append(STATUTORY)
    return windows


def _by_the_clock(case: Case, windows: Sequence[Window], hours: Mapping[str, str]) -> Verdict:
    if (zone := zone_named(hours.get("time_zone", ""))) is not None:
        zones, source = [zone], "user"
    else:
        zones, source = _zones(case.effect, case.row, case.purpose)
    allowed = next_allowed(windows, case.now, zones)
    code = "always_quiet" if allowed is None else "quiet_hours"
    found = _finding(
        "quiet_hours",
        allowed == case.now,
        code,
        windows=[f"{window.start:%H:%M}–{window.end:%H:%M}" for window in windows],
        is_statutory=STATUTORY in windows,
        zones=[zone.key for zone in zones],
        zone_from=source,
        local_times=[f"{case.now.astimezone(zone):%Y-%m-%d %H:%M}" for zone in zones],
    )
    case.findings.append(found)
    if allowed is None:
        return case.suppressed(code)
    return case.go() if found["passed"] else case.put_off(allowed, code)


def _zones(effect: Effect, row: Row, purpose: str) -> tuple[list[ZoneInfo], str]:
    """Where somebody may be, and how we know: by their contact, else by their number."""
    own = None if purpose == "internal" else row["time_zone"]
    if own and (zone := zone_named(own)) is not None:
        return [zone], "contact"
    if effect.channel in BY_PHONE and effect.address:
        names = zones_of_number(effect.address)
        if zones := [zone for name in names if (zone := zone_named(name)) is not None]:
            return zones, "phone_number"
    return [zone_named(row["account_time_zone"]) or ZoneInfo("UTC")], "account"


def _finding(check: str, passed: bool | None, code: str, **values: Any) -> Finding:
    found = {"check": check, "passed": bool(passed), **values}
    return found if passed else {**found, "code": code}


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.astimezone(UTC).isoformat()
