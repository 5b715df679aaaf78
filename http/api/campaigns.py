"""Campaigns: a workflow that contacts are enrolled in by name, up to a limit."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field

from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.fields import INT32_MAX, Name, left_out
from api.lists import List, Page, page_of
from api.resources import Handlers, Resource, routes_of
from api.shown import Shown
from sql import load

queries = load("api_campaigns")

Status = Literal["draft", "active", "paused", "ended"]
Limit = Annotated[int, Field(ge=0, le=INT32_MAX)]


class NewCampaign(Body):
    """A campaign to be; only an active one lets contacts in. Without a limit it takes everybody."""

    name: Name
    workflow_id: UUID
    status: Status = "draft"
    enrollment_limit: Limit | None = None


class CampaignChange(Body):
    """What is to be different; who is in already stays, in the workflow that took them."""

    name: Name = left_out()
    workflow_id: UUID = left_out()
    status: Status = left_out()
    enrollment_limit: Limit | None = None


class CampaignPage(Page):
    """Which campaigns to list."""

    status: Status | None = None
    workflow_id: UUID | None = None


class EnrollmentPage(Page):
    """Which enrolments to list."""

    status: Literal["active", "completed", "removed"] | None = None
    contact_id: UUID | None = None


class ShownEnrollmentCounts(Shown):
    """How many enrolments stand where; active and completed ones count for the limit."""

    active: int
    completed: int
    removed: int


class ShownCampaignItem(Shown):
    """A campaign."""

    id: UUID
    name: str
    status: Status
    workflow_id: UUID
    enrollment_limit: int | None
    created_at: datetime
    updated_at: datetime


class ShownCampaign(ShownCampaignItem):
    """A campaign with its enrolments counted."""

    enrollments: ShownEnrollmentCounts


class ShownEnrollment(Shown):
    """An enrolment of a contact."""

    id: UUID
    contact_id: UUID
    execution_id: UUID | None
    status: Literal["active", "completed", "removed"]
    enrolled_at: datetime
    ended_at: datetime | None
    removal_reason: str | None


CAMPAIGNS: Final = Resource(
    "campaign",
    "/api/v1/campaigns",
    queries,
    ("name", "status", "workflow_id", "enrollment_limit"),
    references={"workflow_id": "workflow"},
    referred_by="id",
)
LIST: Final = List(queries.campaigns, ShownCampaignItem, "name")
ENROLLMENTS: Final = List(queries.enrollments, ShownEnrollment, "-enrolled_at")


async def create(call: Call) -> web.Response:
    """Make a campaign."""
    return await CAMPAIGNS.create(call, await call.body(NewCampaign))


async def list_all(call: Call) -> web.Response:
    """List campaigns; sorts: name, created_at."""
    page = call.parameters(CampaignPage)
    return answer(await LIST.page(call.pool, page, call.account_id))


async def read(call: Call) -> web.Response:
    """Read one campaign, with its enrolments counted."""
    return await CAMPAIGNS.read(call)


async def change(call: Call) -> web.Response:
    """Rename, activate, pause or end a campaign, or change its limit or workflow."""
    return await CAMPAIGNS.change(call, await call.body(CampaignChange))


async def delete(call: Call) -> web.Response:
    """End a campaign for good; the runs that it began go on."""
    return await CAMPAIGNS.delete(call)


async def list_enrollments(call: Call) -> web.Response:
    """List the enrolments of a campaign, newest first."""
    page = call.parameters(EnrollmentPage)
    campaign = await CAMPAIGNS.find(call, call.pool)
    return answer(await ENROLLMENTS.page(call.pool, page, call.account_id, campaign["id"]))


ROUTES: Final = (
    *routes_of(
        CAMPAIGNS,
        Permission.EDIT_SETTINGS,
        Handlers(create, list_all, read, change, delete, NewCampaign, CampaignPage, CampaignChange),
        ShownCampaign,
        ShownCampaignItem,
    ),
    Route(
        "GET",
        "/api/v1/campaigns/{campaign_id}/enrollments",
        list_enrollments,
        Permission.READ,
        parameters=EnrollmentPage,
        answers={200: page_of(ShownEnrollment)},
    ),
)
