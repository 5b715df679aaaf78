-- name: claim_steps
-- Claim up to $2 ready steps of family $1, a fair share from each open lane, higher priority and
-- older first within a lane. $3: begin behind this lane, so that many lanes take turns; $4: how
-- many lanes to look at; next_lane: where the next claim begins. Locks the rows until the
-- transaction ends.
WITH busy_lanes AS MATERIALIZED (
    SELECT lane_id FROM lanes_with_steps($1, $3, $4)
),
served_lanes AS MATERIALIZED (
    SELECT l.id
    FROM busy_lanes b
    JOIN open_lanes l ON l.id = b.lane_id
    ORDER BY l.id
    LIMIT $2
)
SELECT s.*,
    CASE
        WHEN (SELECT count(*) FROM served_lanes) >= $2 THEN (SELECT max(id) FROM served_lanes)
        WHEN (SELECT count(*) FROM busy_lanes) >= $4 THEN (SELECT max(lane_id) FROM busy_lanes)
        ELSE 0
    END AS next_lane
FROM served_lanes o
CROSS JOIN LATERAL (
    SELECT r.id, r.lane_id, r.workflow_execution_id, r.action_id, r.contact_id, r.phase, r.status,
        r.execution_data, r.retry_count, r.attempt, r.sequence, r.event_id, r.return_action_id,
        r.error_code, r.started_at
    FROM workflow_action_executions r
    WHERE r.family = $1 AND r.status = 'pending' AND r.hold IS NULL AND r.lane_id = o.id
    ORDER BY r.priority DESC, r.id
    LIMIT (SELECT ceil($2::numeric / greatest(count(*), 1))::bigint FROM served_lanes)
    FOR NO KEY UPDATE SKIP LOCKED
) s;

-- name: lanes_seen
-- How many lanes a claim with the same arguments looked at, and the last of them.
SELECT count(*) AS visited, coalesce(max(lane_id), 0) AS last_lane FROM lanes_with_steps($1, $2, $3);

-- name: claim_these_steps
-- Claim ready steps by id, for a batch that is done again in smaller parts.
SELECT r.id, r.lane_id, r.workflow_execution_id, r.action_id, r.contact_id, r.phase, r.status,
    r.execution_data, r.retry_count, r.attempt, r.sequence, r.event_id, r.return_action_id,
    r.error_code, r.started_at
FROM workflow_action_executions r
WHERE r.id = ANY ($1::uuid[]) AND r.status = 'pending' AND r.hold IS NULL
ORDER BY r.id
FOR NO KEY UPDATE SKIP LOCKED;

-- name: claim_settled_steps
-- Claim steps in open lanes of family $1, of those in $2, whose gating effects have all ended: what
-- settle_steps and then a claim would do, without a row being written in between. Gives them as ready
-- ones, which is what they would be then.
SELECT r.id, r.lane_id, r.workflow_execution_id, r.action_id, r.contact_id, r.phase, 'pending' AS status,
    r.execution_data, r.retry_count, r.attempt, r.sequence, r.event_id, r.return_action_id,
    r.error_code, r.started_at
FROM workflow_action_executions r
JOIN open_lanes l ON l.id = r.lane_id
WHERE r.id = ANY ($2::uuid[]) AND r.family = $1 AND r.status = 'running' AND r.phase = 'settle'
  AND r.worker_id IS NULL AND r.hold IS NULL
  AND NOT EXISTS (
    SELECT FROM effects f
    WHERE f.step_id = r.id AND f.gates_step
      AND f.status IN ('pending', 'scheduled', 'claimed', 'dispatched')
  )
ORDER BY r.id
FOR NO KEY UPDATE OF r SKIP LOCKED;

-- name: claim_isolated_step
-- Claim one step that was in hand when a worker died; committed with its attempt before the
-- work begins, so that poison uses up its attempts.
WITH claimed AS (
    UPDATE workflow_action_executions s
    SET status = 'running', attempt = s.attempt + 1, worker_id = $2,
        started_at = coalesce(s.started_at, $3)
    WHERE s.id = (
        SELECT o.id
        FROM workflow_action_executions o
        JOIN lanes l ON l.id = o.lane_id
        WHERE o.family = $1 AND o.status = 'pending' AND o.hold = 'isolated'
          AND NOT l.is_paused AND (l.held_until IS NULL OR l.held_until <= $3)
        ORDER BY o.id
        LIMIT 1
        FOR NO KEY UPDATE OF o SKIP LOCKED
    )
    RETURNING s.id, s.attempt, s.account_id, s.contact_id, s.action_id, s.workflow_execution_id
)
INSERT INTO workflow_action_attempts
    (step_id, attempt, account_id, contact_id, action_id, version_id, worker_id, started_at, outcome)
SELECT c.id, c.attempt, c.account_id, c.contact_id, c.action_id, e.version_id, $2, $3, 'started'
FROM claimed c
JOIN workflow_executions e ON e.id = c.workflow_execution_id
RETURNING step_id, attempt;

-- name: take_isolated_step
-- Lock the isolated step for its work, unless it was taken from this worker meanwhile. Its
-- attempt counts from the one before, as the record of the work adds one again.
SELECT r.id, r.lane_id, r.workflow_execution_id, r.action_id, r.contact_id, r.phase, r.status,
    r.execution_data, r.retry_count, r.attempt - 1 AS attempt, r.sequence, r.event_id,
    r.return_action_id, r.error_code, r.started_at
FROM workflow_action_executions r
WHERE r.id = $1 AND r.attempt = $2 AND r.status = 'running' AND r.worker_id = $3
FOR NO KEY UPDATE;

-- name: forget_begun_attempt
-- Drop the row of the attempt that began, for the one that says how it ended.
DELETE FROM workflow_action_attempts WHERE step_id = $1 AND attempt = $2 AND outcome = 'started';

-- name: take_in_hand
-- Say, on another connection and before the work begins, which steps this worker has in hand.
INSERT INTO batches_in_hand (worker_id, step_ids, taken_at)
VALUES ($1, $2::uuid[], current_instant())
RETURNING id;

-- name: isolate_suspects
-- Of steps that this transaction has just locked: mark those that stand in somebody's hand. A
-- batch that lives holds the locks of its steps, so theirs has died, be it a moment ago. $2: hands
-- that need no look, as the caller has them.
UPDATE workflow_action_executions s
SET hold = 'isolated'
WHERE s.id IN (
    SELECT claimed.id
    FROM batches_in_hand h
    CROSS JOIN LATERAL unnest(h.step_ids) AS held (id)
    JOIN unnest($1::uuid[]) AS claimed (id) ON claimed.id = held.id
    WHERE h.id <> ALL ($2::bigint[])
)
RETURNING s.id;

-- name: drop_hands
-- Leave hands that this worker does not have (any more) to the sweep: nobody has them. $2: those
-- that it has.
UPDATE batches_in_hand h
SET worker_id = '00000000-0000-0000-0000-000000000000'
WHERE h.worker_id = $1 AND h.id <> ALL ($2::bigint[]);

-- name: drop_alone
-- The same for steps that were performed alone.
UPDATE workflow_action_executions s
SET worker_id = '00000000-0000-0000-0000-000000000000'
WHERE s.worker_id = $1 AND s.status = 'running' AND s.id <> ALL ($2::uuid[]);

-- name: put_down
-- The work's own commit: nothing of it is in hand any more.
DELETE FROM batches_in_hand WHERE id = $1;

-- name: lock_contacts
-- Lock the contacts of a batch in the order of their ids.
SELECT c.id, c.account_id, c.first_name, c.last_name, c.email, c.email_normalized, c.phone,
    c.phone_normalized, c.time_zone, c.owner_id, c.custom_fields, c.created_at, c.updated_at
FROM contacts c
WHERE c.id = ANY ($1::uuid[])
ORDER BY c.id
FOR NO KEY UPDATE;

-- name: look_at_executions
-- The executions of a batch, looked at after the contacts are locked: whoever cancels or pauses
-- holds the contact's lock as well.
SELECT e.id, e.version_id, e.status, e.priority, e.context, e.event_depth, e.started_at, e.entry_key
FROM workflow_executions e
WHERE e.id = ANY ($1::uuid[]);

-- name: results_of_executions
-- What the earlier steps of executions gave, oldest first.
SELECT s.workflow_execution_id, s.action_id, s.result_data
FROM workflow_action_executions s
WHERE s.workflow_execution_id = ANY ($1::uuid[]) AND s.status = 'completed'
ORDER BY s.sequence;

-- name: effects_of_steps
-- The ledger's rows of steps whose effects have ended.
SELECT f.id, f.step_id, f.kind, f.status, f.result, f.error_code, f.error_message, f.channel
FROM effects f
WHERE f.step_id = ANY ($1::uuid[]) AND f.gates_step
ORDER BY f.id;

-- name: events_by_id
-- Domain events that ended waits.
SELECT v.id, v.event_type, v.payload, v.occurred_at, v.action_id
FROM domain_events v
WHERE v.id = ANY ($1::bigint[]);

-- name: owners
-- Names and addresses of contacts' owners, for merge fields.
SELECT u.id, u.name, u.email FROM users u WHERE u.id = ANY ($1::uuid[]);

-- name: tags_of_contacts
-- Names of contacts' tags, for merge fields.
SELECT ct.contact_id, t.name
FROM contact_tags ct
JOIN tags t ON t.id = ct.tag_id
WHERE ct.contact_id = ANY ($1::uuid[])
ORDER BY lower(t.name);
