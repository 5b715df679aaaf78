-- name: executions
-- A page of executions, newest first. Each workflow's newest are read by its own index and then
-- merged, so that an account sees its page without a walk over everybody's history.
SELECT e.id, e.workflow_id, e.version_id, e.contact_id, e.status, e.entry_key, e.priority,
    e.end_reason, e.started_at, e.completed_at
FROM workflows w
CROSS JOIN LATERAL (
    SELECT x.*
    FROM workflow_executions x
    WHERE x.workflow_id = w.id
      AND ($3::text IS NULL OR x.status = $3)
      AND (x.started_at, x.id) < (
          coalesce($4::timestamptz, 'infinity'),
          coalesce($5::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
      )
    ORDER BY x.started_at DESC, x.id DESC
    LIMIT $6
) e
WHERE w.account_id = $1 AND ($2::uuid IS NULL OR w.id = $2)
ORDER BY e.started_at DESC, e.id DESC
LIMIT $6;

-- name: executions_of_contact
-- The same for one contact.
SELECT e.id, e.workflow_id, e.version_id, e.contact_id, e.status, e.entry_key, e.priority,
    e.end_reason, e.started_at, e.completed_at
FROM workflow_executions e
WHERE e.account_id = $1
  AND e.contact_id = $7
  AND ($2::uuid IS NULL OR e.workflow_id = $2)
  AND ($3::text IS NULL OR e.status = $3)
  AND (e.started_at, e.id) < (
      coalesce($4::timestamptz, 'infinity'),
      coalesce($5::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  )
ORDER BY e.started_at DESC, e.id DESC
LIMIT $6;

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
