-- name: finish_stalled
-- Finish tickets whose worker is gone: rows are the truth, the sweep rings anew.
WITH stalled AS (
    SELECT j.id
    FROM procrastinate_jobs j
    LEFT JOIN procrastinate_workers w ON w.id = j.worker_id
    WHERE j.status = 'doing' AND (w.id IS NULL OR w.last_heartbeat < now() - $1::interval)
),
finished AS (
    SELECT procrastinate_finish_job_v1(id, 'failed', false) FROM stalled
)
SELECT count(*) FROM finished;

-- name: delete_tickets
-- Delete finished tickets of this age; their events go with them.
WITH old AS (
    SELECT j.id
    FROM procrastinate_jobs j
    WHERE j.status IN ('succeeded', 'failed', 'cancelled', 'aborted')
      AND NOT EXISTS (
        SELECT FROM procrastinate_events v WHERE v.job_id = j.id AND v.at > now() - $1::interval
      )
    ORDER BY j.id
    LIMIT $2
),
gone AS (
    DELETE FROM procrastinate_jobs j USING old WHERE j.id = old.id RETURNING j.id
)
SELECT count(*) FROM gone;

-- name: delete_events
-- Delete domain events from before an instant that have been handed on.
WITH old AS (
    SELECT v.id FROM domain_events v
    WHERE v.occurred_at < $1 AND v.dispatched_at IS NOT NULL
    LIMIT $2
),
gone AS (
    DELETE FROM domain_events v USING old WHERE v.id = old.id RETURNING v.id
)
SELECT count(*) FROM gone;

-- name: delete_inbound_texts
-- Forget texts that came in before an instant: no webhook is called again after so long.
WITH old AS (
    SELECT t.account_id, t.provider_id FROM inbound_texts t WHERE t.received_at < $1 LIMIT $2
),
gone AS (
    DELETE FROM inbound_texts t USING old
    WHERE t.account_id = old.account_id AND t.provider_id = old.provider_id
    RETURNING t.provider_id
)
SELECT count(*) FROM gone;

-- name: delete_executions
-- Delete executions that ended before an instant, with their effects, steps and attempts.
WITH old AS (
    SELECT e.id
    FROM workflow_executions e
    WHERE e.status IN ('completed', 'failed', 'cancelled') AND e.completed_at < $1
    ORDER BY e.completed_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
),
steps AS (
    SELECT s.id FROM workflow_action_executions s JOIN old ON old.id = s.workflow_execution_id
),
effects_gone AS (
    DELETE FROM effects f USING old WHERE f.execution_id = old.id
),
attempts_gone AS (
    DELETE FROM workflow_action_attempts a USING steps WHERE a.step_id = steps.id
),
steps_gone AS (
    DELETE FROM workflow_action_executions s USING steps WHERE s.id = steps.id
),
gone AS (
    DELETE FROM workflow_executions e USING old WHERE e.id = old.id RETURNING e.id
)
SELECT count(*) FROM gone;

-- name: delete_refusals
-- Delete what was written down of refused enrolments before an instant.
WITH old AS (
    SELECT r.id FROM enrollment_refusals r WHERE r.refused_at < $1 LIMIT $2
),
gone AS (
    DELETE FROM enrollment_refusals r USING old WHERE r.id = old.id RETURNING r.id
)
SELECT count(*) FROM gone;
