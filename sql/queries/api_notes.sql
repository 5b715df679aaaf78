-- name: notes
-- The notes of an account; see api/lists.py.
SELECT n.id, n.contact_id, n.note_type, n.content, n.metadata, n.step_id, n.created_by,
    n.created_at, n.updated_at
FROM notes n
WHERE n.account_id = $1
-- filter contact_id: n.contact_id = :value
-- filter note_type: n.note_type = :value
-- sort created_at: n.created_at timestamptz, n.id uuid
;

-- name: note
-- One note.
SELECT n.id, n.contact_id, n.note_type, n.content, n.metadata, n.step_id, n.created_by,
    n.created_at, n.updated_at
FROM notes n
WHERE n.account_id = $1 AND n.id = $2;

-- name: add_note
-- Write a note.
INSERT INTO notes
    (account_id, id, contact_id, note_type, content, created_by, created_at, updated_at)
VALUES ($1, $2, $4, $5, $6, $7, $3, $3);

-- name: change_note
-- Write a note's fields; of whom it speaks and who wrote it stays.
UPDATE notes n SET note_type = $5, content = $6, updated_at = $3
WHERE n.account_id = $1 AND n.id = $2 AND n.contact_id = $4
    AND n.created_by IS NOT DISTINCT FROM $7;

-- name: delete_note
-- Delete a note.
DELETE FROM notes n WHERE n.account_id = $1 AND n.id = $2;
