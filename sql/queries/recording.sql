-- name: complete_steps
-- Record that claimed steps are completed: by far the most, so that they travel light.
UPDATE workflow_action_executions s
SET status = 'completed',
    started_at = coalesce(s.started_at, r.started_at),
    completed_at = r.completed_at,
    result_data = r.result_data,
    attempt = r.attempt,
    error_code = NULL,
    error_message = NULL,
    hold = NULL,
    worker_id = NULL
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::jsonb[], $5::integer[])
    AS r (id, started_at, completed_at, result_data, attempt)
WHERE s.id = r.id;

-- name: update_steps
-- Record how other claimed steps leave their batch.
UPDATE workflow_action_executions s
SET status = r.status,
    started_at = coalesce(s.started_at, r.started_at),
    completed_at = r.completed_at,
    execution_data = r.execution_data,
    result_data = r.result_data,
    error_code = r.error_code,
    error_message = r.error_message,
    skip_reason = r.skip_reason,
    retry_count = r.retry_count,
    scheduled_at = r.scheduled_at,
    phase = r.phase,
    hold = r.hold,
    attempt = r.attempt,
    waiting_for = r.waiting_for,
    waiting_action_id = r.waiting_action_id,
    event_id = r.event_id,
    worker_id = NULL
FROM unnest(
    $1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::jsonb[], $6::jsonb[],
    $7::text[], $8::text[], $9::text[], $10::integer[], $11::timestamptz[], $12::text[],
    $13::text[], $14::integer[], $15::text[], $16::uuid[], $17::bigint[]
) AS r (
    id, status, started_at, completed_at, execution_data, result_data,
    error_code, error_message, skip_reason, retry_count, scheduled_at, phase,
    hold, attempt, waiting_for, waiting_action_id, event_id
)
WHERE s.id = r.id;

-- name: end_executions
-- End executions, and the campaign enrolments that they stand for.
WITH ended AS (
    UPDATE workflow_executions e
    SET status = r.status, end_reason = r.reason, completed_at = $4
    FROM unnest($1::uuid[], $2::text[], $3::text[]) AS r (id, status, reason)
    WHERE e.id = r.id AND e.status IN ('running', 'paused')
    RETURNING e.id
)
UPDATE campaign_enrollments n
SET status = 'completed', ended_at = $4
FROM ended
WHERE n.execution_id = ended.id AND n.status = 'active';

-- name: listeners
-- The event types that active workflows of these accounts are started by.
SELECT DISTINCT t.account_id, t.event_type
FROM workflow_triggers t
WHERE t.account_id = ANY ($1::uuid[]);
