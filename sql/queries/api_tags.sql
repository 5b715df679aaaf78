-- name: tags
-- The tags of an account; see api/lists.py.
SELECT t.id, t.name, t.color, t.created_at, t.updated_at
FROM tags t
WHERE t.account_id = $1
-- filter search: lower(t.name) LIKE lower(:value)
-- sort name: lower(t.name) text, t.id uuid
-- sort created_at: t.created_at timestamptz, t.id uuid
;

-- name: tag
-- One tag.
SELECT t.id, t.name, t.color, t.created_at, t.updated_at
FROM tags t
WHERE t.account_id = $1 AND t.id = $2;

-- name: add_tag
-- Make a tag.
INSERT INTO tags (account_id, id, name, color, created_at, updated_at)
VALUES ($1, $2, $4, $5, $3, $3);

-- name: change_tag
-- Write a tag's fields.
UPDATE tags t SET name = $4, color = $5, updated_at = $3 WHERE t.account_id = $1 AND t.id = $2;

-- name: delete_tag
-- Delete a tag; it is taken off all contacts, without an event for each.
DELETE FROM tags t WHERE t.account_id = $1 AND t.id = $2;

-- name: tags_of_contact
-- The tags of a contact, by name.
SELECT t.id, t.name, t.color, g.added_at
FROM contact_tags g
JOIN tags t ON t.account_id = g.account_id AND t.id = g.tag_id
WHERE g.account_id = $1 AND g.contact_id = $2
ORDER BY lower(t.name);
