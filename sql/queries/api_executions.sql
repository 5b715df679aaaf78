-- name: executions
-- The executions of an account; see api/lists.py.
SELECT e.id, e.workflow_id, e.version_id, e.contact_id, e.status, e.entry_key, e.priority,
    e.end_reason, e.started_at, e.completed_at
FROM workflow_executions e
WHERE e.account_id = $1
-- filter workflow_id: e.workflow_id = :value
-- filter contact_id: e.contact_id = :value
-- filter status: e.status = :value
-- filter version_id: e.version_id = :value
-- filter started_from: e.started_at >= :value
-- filter started_before: e.started_at < :value
-- filter current_action_id: EXISTS (SELECT FROM workflow_action_executions s WHERE s.workflow_execution_id = e.id AND s.action_id = :value AND s.status IN ('pending', 'scheduled', 'waiting', 'running'))
-- filter error_code: e.status = 'failed' AND e.end_reason = :value
-- sort started_at: e.started_at timestamptz, e.id uuid
;

-- name: execution
-- One execution.
SELECT e.id, e.workflow_id, e.version_id, v.number AS version, e.contact_id, e.status,
    e.entry_key, e.priority, e.context, e.end_reason, e.started_at, e.completed_at
FROM workflow_executions e
JOIN workflow_versions v ON v.id = e.version_id
WHERE e.account_id = $1 AND e.id = $2;

-- name: steps
-- The steps of an execution, in the order in which they came.
SELECT s.id, s.action_id, a.action_type, a.key, s.status, s.phase, s.hold, s.sequence,
    s.started_at, s.completed_at, s.scheduled_at, s.waiting_for, s.retry_count, s.skip_reason,
    s.error_code, s.error_message, s.result_data
FROM workflow_action_executions s
JOIN workflow_executions e ON e.id = s.workflow_execution_id
LEFT JOIN workflow_version_actions a ON a.version_id = e.version_id AND a.action_id = s.action_id
WHERE s.account_id = $1 AND s.workflow_execution_id = $2
ORDER BY s.sequence, s.id;

-- name: attempts
-- Every try of these steps (requirement R7.3).
SELECT t.step_id, t.attempt, t.started_at, t.finished_at, t.outcome, t.error_kind, t.error_code,
    t.error_message, extract(epoch FROM t.finished_at - t.started_at)::float8 AS duration_seconds
FROM workflow_action_attempts t
WHERE t.account_id = $1 AND t.step_id = ANY ($2::uuid[])
ORDER BY t.step_id, t.attempt;

-- name: effects
-- What the steps of an execution sent out or wanted to, oldest first, at most $3.
SELECT f.id, f.step_id, f.kind, f.status, f.gates_step, f.integration_id, f.channel, f.address,
    f.attempt, f.request, f.decision, f.result, f.error_code, f.error_message, f.scheduled_at,
    f.created_at, f.dispatched_at, f.completed_at, f.delivery_status
FROM effects f
WHERE f.account_id = $1 AND f.execution_id = $2
ORDER BY f.id
LIMIT $3;

-- name: effect_attempts
-- Every try of these effects, and results that came too late to count.
SELECT t.effect_id, t.attempt, t.started_at, t.finished_at, t.outcome, t.is_late, t.error_kind,
    t.error_code, t.error_message, t.result
FROM effect_attempts t
WHERE t.account_id = $1 AND t.effect_id = ANY ($2::uuid[])
ORDER BY t.effect_id, t.attempt, t.is_late;
