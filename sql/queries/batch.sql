-- name: fail_outright
-- Fail a step that cannot even be loaded, and its execution, without looking at its definition.
WITH failed AS (
    UPDATE workflow_action_executions s
    SET status = 'failed', error_code = $3, error_message = $4, completed_at = current_instant(),
        started_at = coalesce(s.started_at, current_instant()), hold = NULL, worker_id = NULL,
        -- Performed alone, the attempt was counted when it began.
        attempt = CASE s.status WHEN 'pending' THEN s.attempt + 1 ELSE s.attempt END
    WHERE s.id = $1 AND s.status IN ('pending', 'running')
    RETURNING s.*
),
ended AS (
    UPDATE workflow_executions e
    SET status = 'failed', end_reason = $3, completed_at = failed.completed_at
    FROM failed
    WHERE e.id = failed.workflow_execution_id AND e.status IN ('running', 'paused')
),
enrollments AS (
    UPDATE campaign_enrollments n
    SET status = 'completed', ended_at = failed.completed_at
    FROM failed
    WHERE n.execution_id = failed.workflow_execution_id AND n.status = 'active'
)
INSERT INTO workflow_action_attempts AS t
    (step_id, attempt, account_id, contact_id, action_id, version_id, worker_id, started_at,
     finished_at, outcome, error_kind, error_code, error_message)
SELECT f.id, f.attempt, f.account_id, f.contact_id, f.action_id, e.version_id, $5, f.completed_at,
    f.completed_at, 'failed', $2, $3, $4
FROM failed f
JOIN workflow_executions e ON e.id = f.workflow_execution_id
ON CONFLICT (step_id, attempt) DO UPDATE
SET outcome = 'failed', finished_at = excluded.finished_at, error_kind = $2, error_code = $3,
    error_message = $4;

-- name: put_back
-- Make a step that was claimed alone ready again, as if it had not been.
UPDATE workflow_action_executions s
SET status = 'pending', worker_id = NULL, attempt = s.attempt - 1
WHERE s.id = $1 AND s.attempt = $2 AND s.status = 'running' AND s.worker_id = $3;

-- name: execution_of_step
-- Whose step it is.
SELECT s.workflow_execution_id FROM workflow_action_executions s WHERE s.id = $1;

-- name: put_off
-- Put a ready step off for a while, without an attempt: its contact is locked for too long.
UPDATE workflow_action_executions s
SET status = 'scheduled', scheduled_at = current_instant() + $2::interval
WHERE s.id = $1 AND s.status = 'pending'
RETURNING s.scheduled_at;
