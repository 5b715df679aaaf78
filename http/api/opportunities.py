"""Opportunities: what a contact may buy, where it stands in its pipeline, and how it ended."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field, WithJsonSchema

from actors.create_opportunity import told_of
from api.access import Permission
from api.account import currency_of
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.fields import Name, checked, left_out
from api.lists import List, Page
from api.problems import conflict, invalid
from api.resources import Handlers, Happened, Resource, Values, routes_of
from api.shown import Listing, Shown
from runtime.configuration import Fault
from runtime.database import Connection
from sql import load

queries = load("api_opportunities")

# The column is numeric(20, 4).
Value = Annotated[
    Decimal,
    Field(ge=0, max_digits=20, decimal_places=4),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "multipleOf": 0.0001, "maximum": 1e11},
                {"type": "string", "pattern": r"^\d{1,16}(\.\d{1,4})?$"},
            ]
        }
    ),
]
Currency = Annotated[str, checked(currency_of)]
Status = Literal["open", "won", "lost"]


class NewOpportunity(Body):
    """An opportunity to be; without a stage in the pipeline's first, in the account's currency."""

    contact_id: UUID
    pipeline_id: UUID
    stage_id: UUID | None = None
    name: Name
    value: Value | None = None
    currency: Currency | None = None
    owner_id: UUID | None = None
    status: Status = "open"


class OpportunityChange(Body):
    """What is to be different; a stage of another pipeline moves it there."""

    stage_id: UUID = left_out()
    name: Name = left_out()
    value: Value | None = None
    currency: Currency = left_out()
    owner_id: UUID | None = None
    status: Status = left_out()


class OpportunityPage(Page):
    """Which opportunities to list."""

    contact_id: UUID | None = None
    pipeline_id: UUID | None = None
    stage_id: UUID | None = None
    owner_id: UUID | None = None
    status: Status | None = None
    value_from: Value | None = None
    value_to: Value | None = None


class ShownOpportunity(Shown):
    """An opportunity; values are decimals written as text.

    `account_value` is the value in the account's currency when it was last set, by the rates of
    `rate_valid_on` (null: it needed none); null where no rate was known.
    """

    id: UUID
    contact_id: UUID
    pipeline_id: UUID
    stage_id: UUID
    owner_id: UUID | None
    name: str
    value: str | None
    currency: str | None
    account_value: str | None
    account_currency: str | None
    rate_valid_on: date | None
    status: Status
    stage_entered_at: datetime
    created_at: datetime
    updated_at: datetime


class ShownMove(Shown):
    """One move of an opportunity, by a step or a user; from nowhere: it was opened there."""

    from_pipeline_id: UUID | None
    from_stage_id: UUID | None
    to_pipeline_id: UUID
    to_stage_id: UUID
    step_id: UUID | None
    user_id: UUID | None
    moved_at: datetime


async def _find_place(
    call: Call, db: Connection, before: Values | None, after: dict[str, Any]
) -> None:
    after["moved_by"] = call.caller.user_id
    if after["currency"] is None:
        after["currency"] = await db.fetchval(queries.account_currency, call.account_id)
    if after["stage_id"] is None:
        pipeline = (call.account_id, after["pipeline_id"])
        after["stage_id"] = await db.fetchval(queries.first_stage, *pipeline)
        if after["stage_id"] is None:
            raise conflict("pipeline_has_no_stages", "The pipeline has no stage to begin in.")
        return
    pipeline_id = await db.fetchval(queries.pipeline_of_stage, call.account_id, after["stage_id"])
    if before is None and pipeline_id != after["pipeline_id"]:
        raise invalid(Fault("stage_id", "stage_unknown", "The pipeline has no such stage."))
    after["pipeline_id"] = pipeline_id or after["pipeline_id"]


def _happened(before: Values | None, after: Values) -> Happened:
    if before is None:
        return [("opportunity_created", told_of(after))]
    if before["stage_id"] == after["stage_id"]:
        return ()
    return [("stage_changed", told_of_move(before, after))]


def told_of_move(before: Values, after: Values) -> dict[str, str]:
    """Say of a move what move_pipeline_stage says."""
    return {
        "opportunity_id": str(after["id"]),
        "from_pipeline_id": str(before["pipeline_id"]),
        "from_stage_id": str(before["stage_id"]),
        "to_pipeline_id": str(after["pipeline_id"]),
        "to_stage_id": str(after["stage_id"]),
    }


OPPORTUNITIES: Final = Resource(
    "opportunity",
    "/api/v1/opportunities",
    queries,
    (
        "contact_id", "pipeline_id", "stage_id", "owner_id", "name", "value", "currency", "status",
        "moved_by",
    ),
    references={"pipeline_id": "pipeline", "stage_id": "stage", "owner_id": "user"},
    is_recorded=False,
    of_contact=True,
    check=_find_place,
    happened=_happened,
)  # fmt: skip
LIST: Final = List(queries.opportunities, ShownOpportunity, "-created_at")


async def create(call: Call) -> web.Response:
    """Open an opportunity for a contact."""
    return await OPPORTUNITIES.create(call, await call.body(NewOpportunity))


async def list_all(call: Call) -> web.Response:
    """List opportunities, newest first; sorts: created_at, value, name."""
    return answer(await LIST.page(call.pool, call.parameters(OpportunityPage), call.account_id))


async def read(call: Call) -> web.Response:
    """Read one opportunity."""
    return await OPPORTUNITIES.read(call)


async def change(call: Call) -> web.Response:
    """Change or move an opportunity, or say that it is won, lost or open again."""
    return await OPPORTUNITIES.change(call, await call.body(OpportunityChange))


async def delete(call: Call) -> web.Response:
    """Delete an opportunity with its history."""
    return await OPPORTUNITIES.delete(call)


async def list_history(call: Call) -> web.Response:
    """List the moves of an opportunity, oldest first."""
    row = await OPPORTUNITIES.find(call, call.pool)
    rows = await call.pool.fetch(queries.history, call.account_id, row["id"])
    return answer({"items": [dict(row) for row in rows]})


ROUTES: Final = (
    *routes_of(
        OPPORTUNITIES,
        Permission.EDIT_CONTACTS,
        Handlers(
            create,
            list_all,
            read,
            change,
            delete,
            NewOpportunity,
            OpportunityPage,
            OpportunityChange,
        ),
        ShownOpportunity,
    ),
    Route(
        "GET",
        "/api/v1/opportunities/{opportunity_id}/history",
        list_history,
        Permission.READ,
        answers={200: Listing[ShownMove]},
    ),
)
