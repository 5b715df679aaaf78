-- name: find_tags
-- The tags of (account, name) pairs, whatever the case of the name.
SELECT w.account_id, w.name AS wanted_name, t.id
FROM unnest($1::uuid[], $2::text[]) AS w (account_id, name)
JOIN tags t ON t.account_id = w.account_id AND lower(t.name) = lower(w.name);

-- name: make_tags
-- Make tags that are missing, in an order that everybody keeps to.
INSERT INTO tags (account_id, name, color)
SELECT DISTINCT ON (w.account_id, lower(w.name)) w.account_id, w.name, w.color
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS w (account_id, name, color)
ORDER BY w.account_id, lower(w.name), w.name
ON CONFLICT (account_id, lower(name)) DO NOTHING;
