"""Bounces and complaints, posted as the mails that they are.

Whatever takes mail for the bounce address hands it over with a token of the account, such as an
alias of the mail server: `|curl --data-binary @- -H 'Authorization: Bearer …' …/mail-returns`.
"""

from __future__ import annotations

import asyncio
from typing import Final, Literal
from uuid import UUID

from aiohttp import web

from actors.mail_reports import queries as mail_queries
from actors.mail_reports import report_mails
from actors.mail_returns import Returned, read_return
from api.access import Permission
from api.answers import answer
from api.bodies import read_raw
from api.calls import Call, Route
from api.shown import Shown

LARGEST: Final = 10 << 20


class ShownReturn(Shown):
    """What a mail that came back was understood to say, and of which mail of ours.

    `none`: it is no report, or of no mail that this account has sent. `suppressed`: why nothing
    is written to the address from now on.
    """

    outcome: Literal[
        "none", "bounced", "deferred", "complained", "unsubscribed", "delivered", "accepted"
    ]
    effect_id: UUID | None
    is_hard: bool | None
    code: str | None
    suppressed: str | None


async def take(call: Call) -> web.Response:
    """Take in a mail that came back: a bounce (RFC 3464, or of no standard) or a complaint (ARF).

    The body is the raw mail. Again it changes nothing.
    """
    raw = await read_raw(call.request, LARGEST)
    returned = await asyncio.to_thread(read_return, raw)
    effect_id = None if returned is None else await _find(call, returned)
    if returned is None or effect_id is None:
        return _answer("none")
    report = returned.of(effect_id)
    taken = await report_mails(call.pool, call.account_id, [report])
    await call.ring(taken.bells.families, events=taken.bells.events)
    return _answer(
        report.status,
        effect_id=effect_id,
        is_hard=report.payload.get("is_hard"),
        code=report.detail.get("code"),
        suppressed=report.suppresses,
    )


async def _find(call: Call, returned: Returned) -> UUID | None:
    """The first of the mails named that the account has; to whom it went must fit, where told."""
    rows = await call.pool.fetch(
        mail_queries.find_mails, call.account_id, list(returned.effect_ids), None
    )
    addresses = {row["id"]: (row["address"] or "").lower() for row in rows}
    for id_ in returned.effect_ids:
        if id_ in addresses and (not returned.addresses or addresses[id_] in returned.addresses):
            return id_
    return None


def _answer(outcome: str, **known: object) -> web.Response:
    nothing = dict.fromkeys(("effect_id", "is_hard", "code", "suppressed"))
    return answer({"outcome": outcome, **nothing, **known})


ROUTES: Final = (
    Route(
        "POST",
        "/api/v1/mail-returns",
        take,
        Permission.RUN,
        answers={200: ShownReturn},
        problems=frozenset({400, 408, 413}),
        upload=("message/rfc822",),
    ),
)
