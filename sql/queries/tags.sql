-- name: find_tags
-- The tags of (account, lower-case name) pairs.
SELECT t.account_id, lower(t.name) AS name, t.id
FROM unnest($1::uuid[], $2::text[]) AS wanted (account_id, name)
JOIN tags t ON t.account_id = wanted.account_id AND lower(t.name) = wanted.name;

-- name: make_tags
-- Make tags, in the given order; one that another process made meanwhile is given as well.
WITH wanted AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[]) AS w (account_id, name, color)
),
made AS (
    INSERT INTO tags (account_id, name, color)
    SELECT account_id, name, color FROM wanted
    -- DO UPDATE and not DO NOTHING: the row of the other process must be returned.
    ON CONFLICT (account_id, lower(name)) DO UPDATE SET name = tags.name
    RETURNING account_id, lower(name) AS name, id
)
SELECT account_id, name, id FROM made;
