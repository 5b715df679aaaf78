"""add_note: write a note on the contact's record, with the context it was written in.

A note whose merge fields all render empty is not written: the step is skipped with the reason
`empty_note`. Notes are of type `workflow` unless the config says otherwise, so that people can
tell them from their own (`general`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from actors.fields import Config, RequiredMergeText
from actors.literals import literal
from actors.rendered import each, text_of
from runtime.ids import new_id
from runtime.outcomes import Done, Outcome, Skipped
from runtime.registry import ActionType
from runtime.stage import Item, Stage
from sql import load

queries = load("add_note")

LONGEST_NOTE = 50_000


def _content(text: str) -> str | None:
    return text_of(text, "content", LONGEST_NOTE)


class AddNote(Config):
    """What to write and as which type of note."""

    content: Annotated[RequiredMergeText, literal(_content)]
    note_type: Literal["general", "workflow", "system"] = "workflow"


@dataclass(frozen=True, slots=True)
class _Note:
    id: UUID
    item: Item
    content: str

    def row(self) -> tuple[Any, ...]:
        item = self.item
        return (
            self.id, item.account_id, item.contact_id, item.values["note_type"], self.content,
            _context(item), item.step_id,
        )  # fmt: skip


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Write the notes in one statement."""
    notes = each(items, _note)
    rows = [note.row() for note in notes if isinstance(note, _Note)]
    if rows:
        await stage.db.execute(queries.add_notes, *zip(*rows, strict=True), stage.now)
    return [_finish(stage, note) if isinstance(note, _Note) else note for note in notes]


def _note(item: Item) -> _Note | Skipped:
    content = _content(item.values["content"])
    return _Note(new_id(), item, content) if content else Skipped("empty_note")


def _context(item: Item) -> dict[str, str]:
    return {
        "workflow_id": str(item.workflow_id),
        "workflow_name": item.version.workflow_name,
        "version_id": str(item.version.id),
        "execution_id": str(item.execution_id),
        "action_id": str(item.action.id),
        "action_key": item.action.key,
        "step_id": str(item.step_id),
    }


def _finish(stage: Stage, note: _Note) -> Done:
    summary = {"note_id": str(note.id), "note_type": note.item.values["note_type"]}
    stage.emit(note.item, "note_added", summary)
    return Done(summary)


ACTION = ActionType(
    name="add_note",
    family="crm",
    config=AddNote,
    perform=perform,
    gives={"note_id": "the note", "note_type": "its type"},
    emits=frozenset({"note_added"}),
)
