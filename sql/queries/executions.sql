-- name: begin_executions
-- Begin a run of each contact that exists and has no live run under this key, with its first
-- step ready. Gives every contact of the account; execution_id is NULL where no run was begun.
WITH wanted AS (
    SELECT w.contact_id, w.execution_id, w.step_id,
        -- One context for all, or one for each.
        coalesce(w.context, ($9::jsonb[])[1]) AS context,
        coalesce(w.event_depth, ($10::smallint[])[1]) AS event_depth,
        coalesce(w.event_id, ($11::bigint[])[1]) AS event_id
    FROM unnest($4::uuid[], $5::uuid[], $6::uuid[], $9::jsonb[], $10::smallint[], $11::bigint[])
        AS w (contact_id, execution_id, step_id, context, event_depth, event_id)
    JOIN contacts c ON c.id = w.contact_id AND c.account_id = $1 AND c.erased_at IS NULL
),
begun AS (
    INSERT INTO workflow_executions
        (id, account_id, workflow_id, version_id, contact_id, entry_key, priority, context,
         event_depth, event_id, started_at)
    SELECT execution_id, $1, $2, $3, contact_id, $7, $8, context, event_depth, event_id, $12
    FROM wanted
    -- In one order for everybody, so that two enrolments of the same contacts cannot deadlock.
    ORDER BY contact_id
    ON CONFLICT (workflow_id, contact_id, entry_key) WHERE status IN ('running', 'paused') DO NOTHING
    RETURNING id, contact_id
),
first_steps AS (
    INSERT INTO workflow_action_executions
        (id, account_id, workflow_execution_id, action_id, contact_id, family, lane_id,
         priority, ready_at)
    SELECT w.step_id, $1, w.execution_id, $13, w.contact_id, $14, $15, $8, $12
    FROM wanted w
    JOIN begun b ON b.id = w.execution_id
    ORDER BY w.step_id
)
SELECT w.contact_id, b.id AS execution_id
FROM wanted w
LEFT JOIN begun b ON b.id = w.execution_id;

-- name: lock_contacts_of_executions
-- Lock the contacts of executions in the order of their ids, as batches do.
SELECT c.id
FROM contacts c
WHERE c.id IN (
    SELECT e.contact_id FROM workflow_executions e WHERE e.account_id = $1 AND e.id = ANY ($2::uuid[])
)
ORDER BY c.id
FOR NO KEY UPDATE OF c;

-- name: cancel_executions
-- End live executions as cancelled.
UPDATE workflow_executions e
SET status = 'cancelled', end_reason = $3, completed_at = $4
WHERE e.id IN (
    SELECT o.id FROM workflow_executions o
    WHERE o.account_id = $1 AND o.id = ANY ($2::uuid[])
    ORDER BY o.id
    FOR NO KEY UPDATE
) AND e.status IN ('running', 'paused')
RETURNING e.id;

-- name: cancel_steps
-- Skip the open steps of cancelled executions. A step that a batch has in hand is passed over:
-- that batch waits for the contact's lock, then sees that the execution was cancelled. A step
-- whose effects are in flight ends here as well; their results are still recorded.
UPDATE workflow_action_executions s
SET status = 'skipped', skip_reason = 'cancelled', error_message = $2, completed_at = $3,
    hold = NULL
WHERE s.id IN (
    SELECT o.id
    FROM workflow_action_executions o
    WHERE o.workflow_execution_id = ANY ($1::uuid[])
      AND o.status IN ('pending', 'scheduled', 'waiting', 'running')
    ORDER BY o.id
    FOR NO KEY UPDATE SKIP LOCKED
);

-- name: cancel_effects
-- Cancel the effects of cancelled executions that are not yet dispatched. A row that a dispatch
-- is just locking is waited for: either it was dispatched before, or it is cancelled.
UPDATE effects f
SET status = 'cancelled', error_code = 'cancelled', error_message = $2, completed_at = $3,
    worker_id = NULL
WHERE f.id IN (
    SELECT o.id
    FROM effects o
    WHERE o.execution_id = ANY ($1::uuid[]) AND o.status IN ('pending', 'scheduled', 'claimed')
    ORDER BY o.id
    FOR NO KEY UPDATE
) AND f.status IN ('pending', 'scheduled', 'claimed');

-- name: end_enrollments
-- End the campaign enrolments whose executions have ended.
UPDATE campaign_enrollments n
SET status = $2, removal_reason = $3, ended_at = $4
WHERE n.execution_id = ANY ($1::uuid[]) AND n.status = 'active';

-- name: pause_executions
-- Pause running executions.
UPDATE workflow_executions e
SET status = 'paused'
WHERE e.id IN (
    SELECT o.id FROM workflow_executions o
    WHERE o.account_id = $1 AND o.id = ANY ($2::uuid[])
    ORDER BY o.id
    FOR NO KEY UPDATE
) AND e.status = 'running'
RETURNING e.id;

-- name: park_steps
-- Take the ready steps of paused executions out of their lanes; those in hand park themselves.
UPDATE workflow_action_executions s
SET hold = CASE s.hold WHEN 'isolated' THEN 'parked_isolated' ELSE 'parked' END
WHERE s.id IN (
    SELECT o.id
    FROM workflow_action_executions o
    WHERE o.workflow_execution_id = ANY ($1::uuid[]) AND o.status = 'pending'
      AND (o.hold IS NULL OR o.hold = 'isolated')
    ORDER BY o.id
    FOR NO KEY UPDATE SKIP LOCKED
);

-- name: resume_executions
-- Let paused executions run again.
UPDATE workflow_executions e
SET status = 'running'
WHERE e.id IN (
    SELECT o.id FROM workflow_executions o
    WHERE o.account_id = $1 AND o.id = ANY ($2::uuid[])
    ORDER BY o.id
    FOR NO KEY UPDATE
) AND e.status = 'paused'
RETURNING e.id;

-- name: unpark_steps
-- Put parked steps back into their lanes; gives the families that have ready work by it.
UPDATE workflow_action_executions s
SET hold = CASE s.hold WHEN 'parked_isolated' THEN 'isolated' END, ready_at = $2
WHERE s.workflow_execution_id = ANY ($1::uuid[]) AND s.status = 'pending'
  AND s.hold IN ('parked', 'parked_isolated')
RETURNING s.family;

-- name: park_effects
-- Take the ready effects of paused executions out of their lanes, and those that are claimed out
-- of their worker's hand. A row that a dispatch is just locking is waited for, as a cancellation does.
UPDATE effects f
SET status = 'pending', hold = 'parked', worker_id = NULL
WHERE f.id IN (
    SELECT o.id
    FROM effects o
    WHERE o.execution_id = ANY ($1::uuid[]) AND o.status IN ('pending', 'claimed')
    ORDER BY o.id
    FOR NO KEY UPDATE
) AND f.status IN ('pending', 'claimed');

-- name: unpark_effects
-- Put parked effects back into their lanes; gives the families that have ready work by it.
UPDATE effects f
SET hold = CASE WHEN f.losses > 0 THEN 'isolated' END, ready_at = $2
WHERE f.execution_id = ANY ($1::uuid[]) AND f.status = 'pending' AND f.hold = 'parked'
RETURNING f.family;
