-- name: record
-- Log one change: by whom, of what, before and after.
INSERT INTO audit_log (account_id, user_id, action, entity_type, entity_id, before, after, at)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb, (SELECT current_instant()));
