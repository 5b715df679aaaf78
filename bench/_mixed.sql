-- name: somebody
-- The account with any of its users.
SELECT account_id, id FROM users LIMIT 1;

-- name: asleep
-- How many steps sleep.
SELECT count(*) FROM workflow_action_executions WHERE status = 'scheduled';

-- name: is_over
-- Whether no execution of the workflow runs any more.
SELECT NOT EXISTS (SELECT FROM workflow_executions e WHERE e.workflow_id = $1 AND e.status = 'running');

-- name: tally
-- What became of the runs of a workflow and their actions.
SELECT
    (SELECT count(*) FROM workflow_executions WHERE workflow_id = $1 AND status = 'completed') AS completed,
    count(*) AS actions,
    count(*) FILTER (WHERE s.status <> 'completed') AS failed,
    count(DISTINCT a.action_type) FILTER (WHERE s.status = 'completed') AS types
FROM workflow_action_executions s
JOIN workflow_executions e ON e.id = s.workflow_execution_id AND e.workflow_id = $1
JOIN workflow_actions a ON a.id = s.action_id;

-- name: by_family
-- How many steps each family has ended.
SELECT s.family, count(*) AS n
FROM workflow_action_executions s
WHERE s.status IN ('completed', 'failed', 'skipped')
GROUP BY s.family;

-- name: backends
-- The server's processes.
SELECT pid FROM pg_stat_activity;
