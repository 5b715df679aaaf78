-- name: tally
-- How many distinct steps were done, and how many of them more than once.
SELECT count(*) AS done, count(*) FILTER (WHERE t.times > 1) AS doubles
FROM (
    SELECT s.workflow_execution_id, s.action_id, count(*) AS times
    FROM workflow_action_executions s
    WHERE s.status = 'completed'
    GROUP BY s.workflow_execution_id, s.action_id
) t;
