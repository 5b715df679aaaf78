-- name: fail_outright
-- Fail a step that cannot even be loaded, and its execution, without looking at its definition.
WITH failed AS (
    UPDATE workflow_action_executions s
    SET status = 'failed', error_code = $2, error_message = $3, completed_at = current_instant(),
        hold = NULL
    WHERE s.id = $1 AND s.status IN ('pending', 'running')
    RETURNING s.workflow_execution_id
)
UPDATE workflow_executions e
SET status = 'failed', end_reason = $2, completed_at = current_instant()
FROM failed
WHERE e.id = failed.workflow_execution_id AND e.status IN ('running', 'paused');
