-- name: add_notes
-- Write notes on contacts' records.
INSERT INTO notes (id, account_id, contact_id, note_type, content, metadata, step_id, created_at)
SELECT w.id, w.account_id, w.contact_id, w.note_type, w.content, w.metadata, w.step_id, $8
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::jsonb[], $7::uuid[])
    AS w (id, account_id, contact_id, note_type, content, metadata, step_id);
