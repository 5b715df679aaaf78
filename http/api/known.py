"""References in bodies: each must lead to a row of the caller's account, or is named as unknown.

What another account has and what nobody has are told apart by nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal
from uuid import UUID

from api.problems import invalid
from runtime.configuration import Fault, path_of
from runtime.database import Connection
from sql import load

queries = load("api_known")

Kind = Literal["user", "contact", "workflow", "pipeline", "stage", "course"]

_FINDS: Final[Mapping[Kind, str]] = {
    "user": queries.users,
    "contact": queries.contacts,
    "workflow": queries.workflows,
    "pipeline": queries.pipelines,
    "stage": queries.stages,
    "course": queries.courses,
}


async def check_references(
    db: Connection, account_id: UUID, given: Mapping[str, Any], kinds: Mapping[str, Kind]
) -> None:
    """Look for what the given fields of these kinds refer to; a 422 Problem names each unknown one.

    What is found stays until the commit. A field holds an id, a list of ids or None.
    """
    faults = []
    for field, kind in kinds.items():
        places = _places(field, given.get(field))
        wanted = sorted(set(places.values()))
        rows = await db.fetch(_FINDS[kind], account_id, wanted) if wanted else []
        found = {row["id"] for row in rows}
        message = f"There is no such {kind}."
        faults += [
            Fault(p, f"{kind}_unknown", message) for p, i in places.items() if i not in found
        ]
    if faults:
        raise invalid(*faults)


def _places(field: str, value: Any) -> dict[str, UUID]:
    if isinstance(value, list):
        return {path_of((field, number)): item for number, item in enumerate(value)}
    return {} if value is None else {field: value}
