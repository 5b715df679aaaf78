-- name: find_earlier_steps
-- Per waiting step: when the action that it refers to began in this execution, and when the
-- step before it ended. Both NULL for the first step of an execution.
SELECT
    w.step_id,
    max(s.started_at) FILTER (WHERE s.action_id = w.related_action_id) AS related_started_at,
    max(s.completed_at) AS previous_ended_at
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS w (step_id, execution_id, related_action_id)
JOIN workflow_action_executions s
    ON s.workflow_execution_id = w.execution_id AND s.id <> w.step_id
GROUP BY w.step_id;
