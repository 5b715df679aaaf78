"""Templates of messages: a name over versions, of which each is written once and never changed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from actors.fields import MERGE_FIELDS, MergeText, storable, template
from actors.mail_templates import compile_mail
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.fields import INT32_MAX, Name, Object, left_out
from api.lists import List, Page, page_of
from api.problems import invalid, not_found
from api.resources import Handlers, Resource, Values, routes_of
from api.shown import Shown
from runtime.configuration import Fault
from runtime.database import Connection
from runtime.templates import TemplateError, compile_text
from sql import load

queries = load("api_templates")
contact_queries = load("api_code")

LONGEST: Final = 500_000
"""Characters of a template; mail programs cut longer messages off (Gmail at 102 kB)."""


def _html(text: str) -> str:
    try:
        compile_text(storable(text), html=True)
    except TemplateError as error:
        raise PydanticCustomError(
            "template_error",
            "{reason}",
            {
                "code": error.code,
                "reason": error.message,
                "line": error.line,
                "column": error.column,
            },
        ) from None
    if not text.strip():
        raise PydanticCustomError("blank", "a text is needed, not white space alone")
    return text


Purpose = Literal["marketing", "transactional"]
Html = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST, json_schema_extra=MERGE_FIELDS),
    AfterValidator(_html),
]
Plain = Annotated[
    str, Field(max_length=LONGEST, json_schema_extra=MERGE_FIELDS), AfterValidator(template)
]


class NewTemplate(Body):
    """A template to be. Without a text one is generated from the HTML.

    A transactional one answers to something that the contact did; all others are marketing, and
    carry the account's postal address and a way to unsubscribe.
    """

    name: Name
    purpose: Purpose = "marketing"
    html: Html
    text: Plain | None = None


class TemplateChange(Body):
    """What is to be different; other content becomes the newest version."""

    name: Name = left_out()
    purpose: Purpose = left_out()
    html: Html = left_out()
    text: Plain | None = None


class TemplatePage(Page):
    """Which templates to list."""

    purpose: Purpose | None = None


class Preview(Body):
    """Whom to render a template for, which version of it (the newest), and with what subject."""

    contact_id: UUID
    version: Annotated[int, Field(ge=1, le=INT32_MAX)] | None = None
    subject: MergeText = ""
    steps: Object = Field(default_factory=dict)
    trigger: Object = Field(default_factory=dict)


class ShownTemplateItem(Shown):
    """A template without its content; `version` is the newest."""

    id: UUID
    name: str
    purpose: Purpose
    version: int
    created_at: datetime
    updated_at: datetime


class ShownTemplate(ShownTemplateItem):
    """A template with the content of its newest version; a text of null is generated."""

    html: str
    text: str | None


class ShownTemplateVersionItem(Shown):
    """That a version was made, when and by whom."""

    version: int
    created_at: datetime
    created_by: UUID | None


class ShownTemplateVersion(ShownTemplateVersionItem):
    """A version with its content."""

    html: str
    text: str | None


class ShownPreview(Shown):
    """A template as a contact would get it, before links are rewritten."""

    version: int
    subject: str
    html: str
    text: str


async def _signed(call: Call, _db: Connection, _before: Values | None, after: Any) -> None:
    after["created_by"] = call.caller.user_id


TEMPLATES: Final = Resource(
    "template",
    "/api/v1/templates",
    queries,
    ("name", "purpose", "html", "text", "created_by"),
    referred_by="id",
    check=_signed,
)
LIST: Final = List(queries.templates, ShownTemplateItem, "name")
VERSIONS: Final = List(queries.template_versions, ShownTemplateVersionItem, "-version")


async def create(call: Call) -> web.Response:
    """Make a template with its first version."""
    return await TEMPLATES.create(call, await call.body(NewTemplate))


async def list_all(call: Call) -> web.Response:
    """List templates, without their content; sorts: name, created_at."""
    page = call.parameters(TemplatePage)
    return answer(await LIST.page(call.pool, page, call.account_id))


async def read(call: Call) -> web.Response:
    """Read a template with the content of its newest version."""
    return await TEMPLATES.read(call)


async def change(call: Call) -> web.Response:
    """Rename a template, or give it content, which becomes a new version."""
    return await TEMPLATES.change(call, await call.body(TemplateChange))


async def delete(call: Call) -> web.Response:
    """Delete a template; what was sent by it stays."""
    return await TEMPLATES.delete(call)


async def list_versions(call: Call) -> web.Response:
    """List the versions of a template, newest first."""
    page = call.parameters(Page)
    found = await TEMPLATES.find(call, call.pool)
    return answer(await VERSIONS.page(call.pool, page, call.account_id, found["id"]))


async def read_version(call: Call) -> web.Response:
    """Read one version of a template, as it was and will stay."""
    found = await TEMPLATES.find(call, call.pool)
    text = call.request.match_info["version"]
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    return answer(await _version(call, found["id"], number))


async def preview(call: Call) -> web.Response:
    """Render a version for a contact, as it would be sent; nothing is stored or sent."""
    asked = await call.body(Preview)
    found = await TEMPLATES.find(call, call.pool)
    version = await _version(call, found["id"], asked.version or found["version"])
    context = await _context(call, asked)
    try:
        html, text = compile_mail(version["html"], version["text"]).render(context)
        subject = compile_text(asked.subject).render(context)
    except TemplateError as error:
        raise invalid(Fault("", error.code, str(error))) from None
    return answer({"version": version["version"], "subject": subject, "html": html, "text": text})


async def _version(call: Call, template_id: UUID, number: int) -> dict[str, Any]:
    row = await call.pool.fetchrow(queries.template_version, call.account_id, template_id, number)
    if row is None:
        raise not_found("template_version")
    return dict(row)


async def _context(call: Call, asked: Preview) -> dict[str, Any]:
    row = await call.pool.fetchrow(
        contact_queries.contact_for_script, call.account_id, asked.contact_id
    )
    if row is None:
        raise invalid(Fault("contact_id", "contact_unknown", "There is no such contact."))
    return {
        "contact": dict(row),
        "account": {"name": row["account_name"], "currency": row["account_currency"]},
        "workflow": {"id": None, "name": None, "execution_id": None, "execution_date": None},
        "steps": asked.steps,
        "trigger": asked.trigger,
    }


_ONE: Final = f"{TEMPLATES.path}/{{template_id}}"

ROUTES: Final = (
    *routes_of(
        TEMPLATES,
        Permission.EDIT_WORKFLOWS,
        Handlers(create, list_all, read, change, delete, NewTemplate, TemplatePage, TemplateChange),
        ShownTemplate,
        ShownTemplateItem,
    ),
    Route(
        "GET",
        f"{_ONE}/versions",
        list_versions,
        Permission.READ,
        parameters=Page,
        answers={200: page_of(ShownTemplateVersionItem)},
    ),
    Route(
        "GET",
        f"{_ONE}/versions/{{version}}",
        read_version,
        Permission.READ,
        answers={200: ShownTemplateVersion},
    ),
    Route(
        "POST",
        f"{_ONE}/preview",
        preview,
        Permission.EDIT_WORKFLOWS,
        body=Preview,
        answers={200: ShownPreview},
    ),
)
