"""assign_to_user: give the contact an owner: a certain user, the next in turn, or the least busy.

Users marked unavailable are skipped: a round passes them over, and a step that names one ends as
skipped with the reason user_unavailable; no_available_user if a round has nobody. Viewers, who may
change nothing, take no part in rounds; a step may name one all the same. Service users, for whom
programs' tokens speak, do not exist here: no part in rounds, and user_not_found. A new owner is
logged as a change of owner_id, emits contact_assigned (and no contact_updated), and is told in
the app; a contact that keeps its owner changes nothing, but takes its turn in the round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal
from uuid import UUID

from pydantic import model_validator

from actors import assignment_rounds, notification_in_app
from actors.assignment_rounds import Round, RoundKey
from actors.fields import Config, incomplete
from runtime.failures import Failure, Kind
from runtime.outcomes import Done, EffectRequest, Failed, Outcome, Skipped
from runtime.registry import ActionType
from runtime.stage import Contact, Item, Stage
from sql import load

queries = load("assign_to_user")

Choice = UUID | Skipped | Failed

USER_NOT_FOUND: Final = Failed(
    Failure(Kind.INVALID_CONFIG, "user_not_found", "the account has no user of this id")
)
TEAM_NOT_FOUND: Final = Failed(
    Failure(Kind.INVALID_CONFIG, "team_not_found", "the account has no team of this id")
)


class AssignToUser(Config):
    """Who is to own the contact.

    specific: `user_id`. round_robin and least_busy: the available members of `team_id`, without
    it all available users of the account, in both cases except viewers. Busy means open tasks
    plus owned open opportunities.
    """

    assignment_type: Literal["specific", "round_robin", "least_busy"]
    user_id: UUID | None = None
    team_id: UUID | None = None
    notify_assignee: bool = True

    @model_validator(mode="after")
    def _names_its_user(self) -> AssignToUser:
        if self.assignment_type == "specific" and self.user_id is None:
            raise incomplete("user_id", "a specific assignment needs its user")
        return self


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Choose owners and give them; a fixed number of statements for any number of items."""
    named = await _find_named(stage, items)
    rounds = await _begin_rounds(stage, items)
    choices = [_choose(item, named, rounds) for item in items]
    if rounds:
        await assignment_rounds.end(stage, rounds)
    new = {
        item.contact_id: choice
        for item, choice in zip(items, choices, strict=True)
        if isinstance(choice, UUID) and choice != item.contact["owner_id"]
    }
    if new:
        await stage.db.execute(queries.give_owners, list(new), list(new.values()), stage.now)
    return [
        _given(stage, item, choice) if isinstance(choice, UUID) else choice
        for item, choice in zip(items, choices, strict=True)
    ]


async def _find_named(stage: Stage, items: Sequence[Item]) -> dict[tuple[UUID, UUID], bool]:
    """Whether the users that steps name are available, by account and user."""
    wanted = {
        (item.account_id, config.user_id)
        for item in items
        if (config := _config(item)).assignment_type == "specific"
    }
    if not wanted:
        return {}
    rows = await stage.db.fetch(queries.find_users, *zip(*wanted, strict=True))
    return {(row["account_id"], row["id"]): row["is_available"] for row in rows}


async def _begin_rounds(stage: Stage, items: Sequence[Item]) -> dict[RoundKey, Round]:
    in_rounds = [i for i in items if _config(i).assignment_type != "specific"]
    if not in_rounds:
        return {}
    with_load = {_round(i) for i in in_rounds if _config(i).assignment_type == "least_busy"}
    return await assignment_rounds.begin(stage, {_round(i) for i in in_rounds}, with_load)


def _choose(
    item: Item, named: Mapping[tuple[UUID, UUID], bool], rounds: Mapping[RoundKey, Round]
) -> Choice:
    config = _config(item)
    if config.assignment_type == "specific":
        assert config.user_id is not None
        is_available = named.get((item.account_id, config.user_id))
        if is_available is None:
            return USER_NOT_FOUND
        return config.user_id if is_available else Skipped("user_unavailable")
    if (round_ := rounds.get(_round(item))) is None:
        return TEAM_NOT_FOUND
    is_turn = config.assignment_type == "round_robin"
    user_id = round_.next_in_turn() if is_turn else round_.next_least_busy()
    return user_id or Skipped("no_available_user")


def _given(stage: Stage, item: Item, user_id: UUID) -> Done:
    previous: UUID | None = item.contact["owner_id"]
    told = {"user_id": str(user_id), "previous_owner_id": str(previous) if previous else None}
    if user_id == previous:
        return Done({**told, "assigned": False})
    stage.record_change(item, "owner_id", told["previous_owner_id"], told["user_id"])
    stage.emit(item, "contact_assigned", told)
    if _config(item).notify_assignee:
        stage.notify(item, _notice(item.contact, user_id))
    item.contact["owner_id"] = user_id
    item.contact["updated_at"] = stage.now
    return Done({**told, "assigned": True})


def _notice(contact: Contact, user_id: UUID) -> EffectRequest:
    names = " ".join(filter(None, (contact["first_name"], contact["last_name"])))
    name = names or contact["email"] or contact["phone"] or "A contact without a name"
    return notification_in_app.request(
        user_id, "A contact was assigned to you", f"{name} is yours now.", contact["id"]
    )


def _round(item: Item) -> RoundKey:
    return item.account_id, _config(item).team_id


def _config(item: Item) -> AssignToUser:
    assert isinstance(item.config, AssignToUser)
    return item.config


ACTION = ActionType(
    name="assign_to_user",
    family="crm",
    config=AssignToUser,
    perform=perform,
    contended=True,
    gives={
        "user_id": "the owner now",
        "previous_owner_id": "the owner before",
        "assigned": "false if nothing changed",
    },
    emits=frozenset({"contact_assigned"}),
    refers={"user_id": "user", "team_id": "team"},
)
