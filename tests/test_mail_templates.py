"""Templates of mails: versions that stay, previews, and text made from HTML."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from actors.mail_templates import compile_mail, plain_of
from runtime.settings import Settings
from tests.api_desk import Caller, Desk, open_desk

ALL = "/api/v1/templates"
HTML = "<p>Hi {{contact.first_name}}</p>\n<p>Bye</p>"


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@pytest.fixture
async def admin(desk: Desk) -> Caller:
    return await desk.caller()


async def made(admin: Caller, **body: Any) -> Any:
    return await admin.post(ALL, {"name": "Welcome", "html": HTML, **body})


async def test_other_content_is_a_version_of_its_own_and_old_ones_stay(admin: Caller) -> None:
    shown = await made(admin)
    path = f"{ALL}/{shown['id']}"
    assert (shown["version"], shown["purpose"], shown["text"]) == (1, "marketing", None)
    for change, version in [
        ({"name": "Hello"}, 1),
        ({"html": "<b>new</b>"}, 2),
        ({"html": "<b>new</b>"}, 2),
        ({"text": "new"}, 3),
        ({"text": None}, 4),
    ]:
        changed = await admin.call("PATCH", path, change)
        assert (changed.status, changed.data["version"]) == (200, version), changed.data
    assert (await admin.get(path))["name"] == "Hello"
    listed = await admin.get(f"{path}/versions")
    assert [item["version"] for item in listed["items"]] == [4, 3, 2, 1]
    assert (await admin.get(f"{path}/versions/1"))["html"] == HTML
    for number in ("5", "0", "x", "9" * 30):
        assert (await admin.refused("GET", f"{path}/versions/{number}")).status == 404
    await admin.delete(path)
    assert (await admin.refused("GET", path)).status == 404
    assert (await admin.get(ALL))["items"] == []


async def test_a_syntax_error_is_told_with_its_line_and_column(admin: Caller) -> None:
    for field in ("html", "text"):
        answer = await admin.refused("POST", ALL, {"name": "x", "html": "x", field: "a\n{{ b c }}"})
        (fault,) = answer.data["errors"]
        assert (fault["path"], fault["code"]) == (field, "template_error")
        assert fault["message"].startswith("Line 2, column 6: ")
    assert (await admin.refused("POST", ALL, {"name": "x", "html": " "})).faults == [
        ("html", "blank")
    ]


async def test_a_preview_escapes_fields_in_html_and_nowhere_else(admin: Caller) -> None:
    contact = await admin.post("/api/v1/contacts", {"first_name": "A & <B>"})
    shown = await made(admin)
    path = f"{ALL}/{shown['id']}"
    await admin.call("PATCH", path, {"html": "<i>{{contact.first_name}}</i>", "text": "t"})
    body = {"contact_id": contact["id"], "version": 1, "subject": "{{contact.first_name}}!"}
    assert await admin.post(f"{path}/preview", body) == {
        "version": 1,
        "subject": "A & <B>!",
        "html": "<p>Hi A &amp; &lt;B&gt;</p>\n<p>Bye</p>",
        "text": "\nHi A & <B>\n\nBye\n".lstrip(),
    }
    body["version"] = 3
    assert (await admin.refused("POST", f"{path}/preview", body)).status == 404
    body = {"contact_id": shown["id"]}
    refused = await admin.refused("POST", f"{path}/preview", body)
    assert refused.faults == [("contact_id", "contact_unknown")]


async def test_a_template_that_an_action_uses_is_deleted_by_force_only(admin: Caller) -> None:
    shown = await made(admin)
    flow = await admin.post("/api/v1/workflows", {"name": "W"})
    config = {
        "template_id": shown["id"],
        "subject": "Hi",
        "from_name": "A",
        "from_email": "a@acme.com",
    }
    action = {"action_type": "send_email", "action_config": config}
    await admin.post(f"/api/v1/workflows/{flow['id']}/actions", action)
    path = f"{ALL}/{shown['id']}"
    assert len((await admin.get(f"{path}/references"))["items"]) == 1
    assert (await admin.refused("DELETE", path)).code == "in_use"
    forced = await admin.call("DELETE", path, params={"force": "true"})
    assert forced.status == 200


async def test_templates_of_another_account_are_as_unknown_as_any(
    desk: Desk, admin: Caller
) -> None:
    path = f"{ALL}/{(await made(admin))['id']}"
    other = await desk.caller("Other")
    for method, place in [("GET", path), ("DELETE", path), ("GET", f"{path}/versions/1")]:
        assert (await other.refused(method, place)).status == 404


async def test_marketing_mails_address_is_the_accounts(admin: Caller) -> None:
    answer = await admin.call("PATCH", "/api/v1/account", {"postal_address": "1 Way\nTown"})
    assert answer.data["postal_address"] == "1 Way\nTown"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>{{ contact.n }} &amp; co</p>", "{<&>} & co\n"),
        ("<ul>{% for t in contact.tags %}<li>{{t}}</li>{% endfor %}</ul>", None),
        ('<p {% if contact.n %}class="x"{% endif %}>{{contact.n}}</p>', "{<&>}\n"),
        ("<p>{# a comment #}x</p>", "x\n"),
        ("{{contact.n}}", "{<&>}\n"),
    ],
)
def test_the_text_of_a_template_is_made_from_its_html(html: str, text: str | None) -> None:
    context = {"contact": {"n": "{<&>}", "tags": ["a", "b"]}}
    _, made = compile_mail(html, None).render(context)
    if text is not None:
        assert made == text
    else:
        assert all(tag in made for tag in context["contact"]["tags"])


@pytest.mark.parametrize(
    "html", ["", "<", "<!--", "<p" * 1000, "<b>" * 3000, "\x0b", "<!--[if mso]>"]
)
def test_whatever_is_called_html_has_a_text(html: str) -> None:
    assert plain_of(html).endswith("\n") or plain_of(html) == ""
