"""What the demo shows at its end, and what it insists on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

import asyncpg
from rich.console import Console
from rich.table import Table

from bench._demo_account import Account, queries
from bench._people import Person

Holds = Callable[[Person], bool]

TO_TRY = (
    "SELECT * FROM workers_alive;",
    (
        "SELECT at, what, detail FROM contact_timeline WHERE contact_id ="
        " (SELECT min(contact_id::text)::uuid FROM workflow_executions) ORDER BY at;"
    ),
    "SELECT action_type, status, count(*), avg(duration_ms) FROM action_log GROUP BY 1, 2;",
)


REASONS = {
    "bounced": "the mailbox is gone",
    "cancelled": "remove_from_campaign cut the campaign's wait short",
    "contact_not_on_messenger": "never wrote to the page",
    "no_consent": "did not consent to marketing texts",
    "opted_out": "said STOP, and gets nothing more",
    "twilio_30006": "a landline",
}


async def show(console: Console, pool: asyncpg.Pool) -> None:
    """Show what became of the actions, by type, and why some were not done."""
    table = Table(title="What became of the actions", title_justify="left")
    table.add_column("action type")
    for name in ("count", "failed", "skipped", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for row in await pool.fetch(queries.by_type):
        table.add_row(
            row["action_type"],
            f"{row['steps']:,}",
            str(row["failed"]),
            f"{row['skipped']:,}",
            f"{row['p50_ms']:.1f}",
            f"{row['p99_ms']:.1f}",
        )
    console.print(table)
    console.print(
        "Times are those of an action's last batch: up to 500 contacts are done in one go.",
        markup=False,
        soft_wrap=True,
    )
    await _show_reasons(console, pool)


async def show_speed(console: Console, pool: asyncpg.Pool, seconds: float) -> None:
    """Show the throughput, and three queries to try."""
    steps = sum(row["steps"] for row in await pool.fetch(queries.by_type))
    console.print(
        f"{steps:,} actions in {seconds:.1f} s: {steps / seconds:,.0f} actions per second"
    )
    console.print(
        "\nThree queries to try while `run.py demo --keep` runs, by the command it prints:"
    )
    for query in TO_TRY:
        console.print(f"  {query}", markup=False, soft_wrap=True)


async def _show_reasons(console: Console, pool: asyncpg.Pool) -> None:
    table = Table(title="Why some were skipped, or failed", title_justify="left")
    for name in ("action", "outcome", "reason"):
        table.add_column(name)
    table.add_column("count", justify="right")
    for row in await pool.fetch(queries.reasons):
        reason = REASONS.get(row["reason"], row["reason"])
        table.add_row(row["key"], row["status"], reason, f"{row['n']:,}")
    console.print(table)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What Callboard says of what went out, and of what came back."""

    sent: Counter[str]
    """Effects that succeeded, by the key of their action and their kind."""
    outcomes: Counter[str]
    """Results of steps that call, such as `send_voicemail machine`."""
    events: Mapping[str, int]

    @classmethod
    async def read(cls, pool: asyncpg.Pool, workflow_id: UUID) -> Self:
        """Read it."""
        sent = Counter[str]()
        for row in await pool.fetch(queries.ledger, workflow_id):
            sent[f"{row['key']} {row['kind']}"] += row["n"]
        rows = await pool.fetch(queries.outcomes, workflow_id)
        outcomes = Counter({f"{row['key']} {row['outcome']}": row["n"] for row in rows})
        events = {row["event_type"]: row["n"] for row in await pool.fetch(queries.events)}
        return cls(sent, outcomes, events)


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was counted on both sides, and what it should be."""

    what: str
    wanted: int
    ledger: int
    outside: int

    @property
    def is_right(self) -> bool:
        """Whether all three agree."""
        return self.wanted == self.ledger == self.outside


def compare(
    console: Console,
    account: Account,
    ledger: Ledger,
    counts: Mapping[str, Any],
    done: Mapping[str, int],
) -> list[str]:
    """Show what Callboard says beside what was counted outside; gives what does not agree."""
    went = _what_went_out(account, ledger, counts)
    came = _what_came_back(account, ledger, counts, done)
    for title, lines in (("What went out", went), ("What came back", came)):
        table = Table(title=title, title_justify="left")
        table.add_column("what")
        for name in ("should be", "in Callboard's tables", "counted outside"):
            table.add_column(name, justify="right")
        for line in lines:
            table.add_row(line.what, *(f"{n:,}" for n in (line.wanted, line.ledger, line.outside)))
        console.print(table)
    complaints = [f"{line.what}: {line}" for line in (*went, *came) if not line.is_right]
    if counts["refused"] or counts["callbacks_refused"] or counts["webhooks_again"]:
        complaints.append(f"the other side counted {counts}")
    return complaints


def _what_went_out(account: Account, ledger: Ledger, counts: Mapping[str, Any]) -> list[Line]:
    of = _counter(account)
    everybody = len(account.people)
    sent, mails, texts = ledger.sent, counts["mails"], counts["texts"]
    reachable = of(lambda p: p.mailbox == "reads")
    consented = of(lambda p: p.has_consented)
    answered = of(lambda p: p.picks not in ("nobody", "busy first"))
    at_machines = of(lambda p: p.picks == "machine")
    calls = sent["send_voicemail voice.voicemail"] + sent["make_call voice.call"]

    def mail(what: str, wanted: int, key: str, word: str) -> Line:
        return Line(f"mails: {what}", wanted, sent[f"{key} email.message"], mails.get(word, 0))

    def text(what: str, wanted: int, key: str, word: str) -> Line:
        return Line(f"texts: {what}", wanted, sent[f"{key} sms.message"], texts.get(word, 0))

    return [
        mail("the offer", of(lambda p: p.mailbox != "gone"), "send_email", "Offer"),
        mail("welcome to the course", reachable, "grant_course_access", "Welcome"),
        mail("the course is over", reachable, "revoke_course_access", "Your"),
        mail("to the owner", everybody, "send_notification", "Owner"),
        text("the offer", consented, "send_sms", "Offer"),
        text("the reminder", consented - of(lambda p: p.stops), "send_sms_2", "Reminder"),
        Line(
            "calls; busy lines twice",
            2 * everybody + of(lambda p: p.picks == "busy first"),
            calls,
            counts["calls"],
        ),
        Line(
            "voicemails left at machines",
            at_machines,
            ledger.outcomes["send_voicemail machine"],
            counts["played"],
        ),
        Line(
            "calls connected to sales",
            answered + of(lambda p: p.picks == "busy first"),
            ledger.outcomes["make_call completed"],
            counts["connected"],
        ),
        Line(
            "Messenger messages",
            of(lambda p: p.writes),
            sent["send_messenger messenger.message"],
            counts["messages"],
        ),
        Line("webhook calls", everybody, sent["webhook_call webhook.call"], counts["webhooks"]),
    ]


def _what_came_back(
    account: Account, ledger: Ledger, counts: Mapping[str, Any], done: Mapping[str, int]
) -> list[Line]:
    of = _counter(account)

    def line(what: str, holds: Holds, event: str, deed: str) -> Line:
        return Line(what, of(holds), ledger.events.get(event, 0), done.get(deed, 0))

    return [
        line("wrote to the page", lambda p: p.writes, "messenger_reply", "wrote"),
        line("mails opened", lambda p: p.opens, "email_open", "opened"),
        line("links clicked", lambda p: p.clicks, "email_click", "clicked"),
        Line(
            "bounces, at once and later",
            of(lambda p: p.mailbox in ("gone", "bounces")),
            ledger.events.get("email_bounced", 0),
            counts["refused_mails"] + done.get("bounced", 0),
        ),
        line("complaints", lambda p: p.mailbox == "complains", "email_complained", "complained"),
        line("texts answered", lambda p: p.answers_texts, "sms_reply", "replied"),
        line("STOP by text", lambda p: p.stops, "sms_opted_out", "stopped"),
    ]


def _counter(account: Account) -> Callable[[Holds], int]:
    return lambda holds: sum(map(holds, account.people))


async def check(pool: asyncpg.Pool, account: Account) -> list[str]:
    """Compare what the account holds with what it should hold; gives what is wrong."""
    contacts = len(account.contact_ids)
    found = await pool.fetchrow(queries.totals, account.workflow_id, account.campaign_workflow_id)
    assert found is not None
    expected = {
        "completed": contacts,
        "cancelled": contacts,
        "failed": 0,
        "notes": contacts,
        "tasks": contacts,
        "moves": contacts,
        "opportunities": 2 * contacts,
        "notifications": 2 * contacts,
        "grants_ended": contacts,
        "removed": contacts,
        "touched": contacts,
        "offices": account.companies,
        "timed_out": contacts - sum(person.clicks for person in account.people),
        "types": 24,
        "widest_gap": min(1, contacts % 3),
    }
    return [
        f"{name} is {found[name]}, not {wanted}"
        for name, wanted in expected.items()
        if found[name] != wanted
    ]
