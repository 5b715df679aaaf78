-- name: let_all_through
-- The host as an integration that lets so many calls through at once.
INSERT INTO integrations (account_id, kind, name, max_concurrent)
VALUES ($1, 'webhook_host', $2, $3)
ON CONFLICT (account_id, name) WHERE kind = 'webhook_host' DO UPDATE
SET max_concurrent = excluded.max_concurrent;

-- name: ends
-- How executions ended.
SELECT e.status, count(*) AS number FROM workflow_executions e GROUP BY e.status;
