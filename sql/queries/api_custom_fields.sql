-- name: custom_fields
-- The custom fields of an account; see api/lists.py.
SELECT f.id, f.key, f.label, f.field_type, f.options, f.created_at, f.updated_at
FROM custom_fields f
WHERE f.account_id = $1
-- filter field_type: f.field_type = :value
-- sort key: f.key::text text, f.id uuid
-- sort created_at: f.created_at timestamptz, f.id uuid
;

-- name: custom_field
-- One custom field.
SELECT f.id, f.key, f.label, f.field_type, f.options, f.created_at, f.updated_at
FROM custom_fields f
WHERE f.account_id = $1 AND f.id = $2;

-- name: add_custom_field
-- Define a custom field.
INSERT INTO custom_fields (account_id, id, key, label, field_type, options, created_at, updated_at)
VALUES ($1, $2, $4, $5, $6, $7, $3, $3);

-- name: change_custom_field
-- Write a custom field's definition; its key stays.
UPDATE custom_fields f SET label = $5, field_type = $6, options = $7, updated_at = $3
WHERE f.account_id = $1 AND f.id = $2 AND f.key = $4;

-- name: delete_custom_field
-- Delete a custom field's definition.
DELETE FROM custom_fields f WHERE f.account_id = $1 AND f.id = $2;

-- name: held_values
-- The different values that contacts hold in a custom field.
SELECT DISTINCT c.custom_fields -> $2::text AS value
FROM contacts c
WHERE c.account_id = $1 AND c.custom_fields ? $2::text
LIMIT $3;

-- name: rewrite_values
-- Bring the values of a custom field from their old form to the new one.
UPDATE contacts c
SET custom_fields = c.custom_fields || jsonb_build_object($2::text, w.new), updated_at = $5
FROM unnest($3::jsonb[], $4::jsonb[]) AS w (old, new)
WHERE c.account_id = $1 AND c.custom_fields -> $2::text = w.old;

-- name: drop_values
-- Take the values of a custom field off all contacts.
UPDATE contacts c
SET custom_fields = c.custom_fields - $2::text, updated_at = $3
WHERE c.account_id = $1 AND c.custom_fields ? $2::text;
