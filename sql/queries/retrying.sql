-- name: look
-- The executions that are to be retried, looked at after their contacts were locked: what keeps
-- one from it (NULL: nothing), and the failed step from which it would go on. $3: duplicates of
-- what may have gone out are accepted.
SELECT e.id, l.id AS step_id,
    CASE
        WHEN e.status <> 'failed' THEN 'execution_not_failed'
        WHEN l.status IS DISTINCT FROM 'failed' THEN 'no_failed_step'
        WHEN c.erased_at IS NOT NULL THEN 'contact_erased'
        WHEN w.deleted_at IS NOT NULL THEN 'workflow_deleted'
        WHEN EXISTS (
            SELECT FROM workflow_executions o
            WHERE o.workflow_id = e.workflow_id AND o.contact_id = e.contact_id
              AND o.entry_key = e.entry_key AND o.status IN ('running', 'paused')
        ) THEN 'another_run_is_live'
        WHEN NOT $3 AND EXISTS (
            SELECT FROM effects f
            WHERE f.step_id = l.id AND f.status IN ('unknown', 'dispatched')
        ) THEN 'outcome_unknown'
        WHEN NOT $3 AND EXISTS (
            SELECT FROM effects f WHERE f.step_id = l.id AND f.status = 'succeeded'
        ) THEN 'partly_sent'
        -- Of several runs that may not be live at once the latest is retried.
        WHEN e.id <> first_value(e.id) OVER (
            PARTITION BY e.workflow_id, e.contact_id, e.entry_key, e.status
            ORDER BY e.started_at DESC, e.id DESC
        ) THEN 'another_run_is_live'
    END AS reason
FROM workflow_executions e
JOIN contacts c ON c.id = e.contact_id
JOIN workflows w ON w.id = e.workflow_id
LEFT JOIN LATERAL (
    SELECT s.id, s.status
    FROM workflow_action_executions s
    WHERE s.workflow_execution_id = e.id
    ORDER BY s.sequence DESC, s.id DESC
    LIMIT 1
) l ON true
WHERE e.account_id = $1 AND e.id = ANY ($2::uuid[]);

-- name: revive_executions
-- Let failed executions run again. A run of the same contact that begins at this moment makes
-- this a unique_violation: then look again.
UPDATE workflow_executions e
SET status = 'running', end_reason = NULL, completed_at = NULL
WHERE e.account_id = $1 AND e.status = 'failed' AND e.id IN (
    SELECT o.id FROM workflow_executions o
    WHERE o.account_id = $1 AND o.id = ANY ($2::uuid[])
    ORDER BY o.id
    FOR NO KEY UPDATE
)
RETURNING e.id;

-- name: repeat_steps
-- A new step for each failed one, in its place in the chain, whose attempts count anew. The
-- failed step stays as history. Gives the families that have ready work by it.
INSERT INTO workflow_action_executions
    (id, account_id, workflow_execution_id, action_id, contact_id, family, lane_id, priority,
     sequence, ready_at, return_action_id)
SELECT n.new_id, s.account_id, s.workflow_execution_id, s.action_id, s.contact_id, s.family,
    s.lane_id, s.priority, s.sequence + 1, $3, s.return_action_id
FROM unnest($1::uuid[], $2::uuid[]) AS n (step_id, new_id)
JOIN workflow_action_executions s ON s.id = n.step_id
ORDER BY n.new_id
RETURNING family;

-- name: free_keys
-- Let the keys go that effects of the failed steps were given by their actions: what is sent
-- anew is another thing.
UPDATE effects f
SET idempotency_key = f.idempotency_key || ' of ' || f.id
WHERE f.step_id = ANY ($1::uuid[]) AND f.idempotency_key <> f.id::text;

-- name: reopen_enrollments
-- The campaign enrolments that the executions stand for are active again; those from which the
-- contact was removed meanwhile stay as they are.
UPDATE campaign_enrollments n
SET status = 'active', ended_at = NULL
WHERE n.execution_id = ANY ($1::uuid[]) AND n.status = 'completed';
