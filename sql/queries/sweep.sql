-- name: take_dead_workers
-- Take away workers whose lease has run out.
DELETE FROM workers k WHERE k.lease_expires_at <= $1 RETURNING k.id;

-- name: isolate_steps_in_hand
-- Whatever stands in the hands of workers that are no more is claimed alone from now on. A hand
-- of which any step is locked stays until it is not: the dead batch's transaction may still be
-- open, or a claim is just looking at it.
WITH suspects AS (
    SELECT h.id AS hand_id, held.id
    FROM batches_in_hand h
    CROSS JOIN LATERAL unnest(h.step_ids) AS held (id)
    WHERE NOT EXISTS (SELECT FROM workers k WHERE k.id = h.worker_id)
),
free AS (
    SELECT s.id
    FROM workflow_action_executions s
    -- Running without a worker: it was being settled as soon as its effects had ended.
    WHERE s.id IN (SELECT id FROM suspects) AND s.hold IS NULL
      AND (s.status = 'pending' OR s.status = 'running' AND s.worker_id IS NULL)
    ORDER BY s.id
    FOR NO KEY UPDATE SKIP LOCKED
),
locked AS (
    SELECT u.hand_id
    FROM suspects u
    JOIN workflow_action_executions s ON s.id = u.id
    WHERE s.hold IS NULL AND s.id NOT IN (SELECT id FROM free)
      AND (s.status = 'pending' OR s.status = 'running' AND s.worker_id IS NULL)
),
emptied AS (
    DELETE FROM batches_in_hand h
    WHERE h.id IN (SELECT hand_id FROM suspects) AND h.id NOT IN (SELECT hand_id FROM locked)
)
UPDATE workflow_action_executions s
SET hold = 'isolated'
FROM free
WHERE s.id = free.id
RETURNING s.family;

-- name: give_back_running_steps
-- Steps that were performed alone by workers that are no more: claimed alone again, and failed
-- without being performed once that has happened $2 times.
WITH lost AS (
    SELECT s.id, s.attempt
    FROM workflow_action_executions s
    WHERE s.status = 'running' AND s.worker_id IS NOT NULL
      AND NOT EXISTS (SELECT FROM workers k WHERE k.id = s.worker_id)
    ORDER BY s.id
    FOR NO KEY UPDATE SKIP LOCKED
),
logged AS (
    UPDATE workflow_action_attempts a
    SET outcome = 'lost', finished_at = $1, error_kind = 'internal', error_code = 'worker_lost',
        error_message = 'the worker died with this step in hand'
    FROM lost
    WHERE a.step_id = lost.id AND a.attempt = lost.attempt
    RETURNING a.step_id
)
UPDATE workflow_action_executions s
SET status = 'pending', ready_at = $1, worker_id = NULL,
    error_code = CASE WHEN l.losses >= $2 THEN 'worker_lost' END
FROM (
    SELECT lost.id, (
        -- The attempt that the CTE is just marking does not show as lost yet.
        SELECT 1 + count(*) FROM workflow_action_attempts a
        WHERE a.step_id = lost.id AND a.outcome = 'lost'
    ) AS losses
    FROM lost
) l
WHERE s.id = l.id
RETURNING s.family, s.id, s.workflow_execution_id AS execution_id;

-- name: give_back_effects
-- What workers that are no more had claimed goes back, to be claimed alone; what they had
-- dispatched has an unknown outcome: kinds in $3 are repeated under the same key, others end as
-- unknown, unless the effect says otherwise or the provider has reported on it. Losses are
-- counted, so that poison ends.
WITH lost AS (
    SELECT f.id, f.status, f.attempt, f.worker_id, f.account_id, f.losses + 1 AS losses,
        coalesce(f.on_unknown = 'repeat', f.kind = ANY ($3::text[])) AS may_be_repeated,
        f.provider_id, f.delivery_status
    FROM effects f
    WHERE f.status IN ('claimed', 'dispatched')
      AND NOT EXISTS (SELECT FROM workers k WHERE k.id = f.worker_id)
    ORDER BY f.id
    FOR NO KEY UPDATE SKIP LOCKED
),
judged AS (
    SELECT l.*,
        CASE
            -- The provider has reported on it: it has arrived there.
            WHEN l.status = 'dispatched' AND l.provider_id IS NOT NULL THEN 'succeeded'
            WHEN l.status = 'dispatched' AND (NOT l.may_be_repeated OR l.losses >= $2) THEN 'unknown'
            WHEN l.losses >= $2 THEN 'failed'
            ELSE 'pending'
        END AS next_status
    FROM lost l
),
logged AS (
    INSERT INTO effect_attempts
        (effect_id, attempt, account_id, worker_id, started_at, finished_at, outcome,
         error_kind, error_code, error_message)
    SELECT j.id, j.attempt, j.account_id, j.worker_id, $1, $1,
        CASE WHEN j.status = 'dispatched' THEN 'unknown' ELSE 'lost' END,
        CASE WHEN j.status = 'dispatched' THEN 'unknown_outcome' ELSE 'internal' END,
        CASE WHEN j.status = 'dispatched' THEN 'outcome_unknown' ELSE 'worker_lost' END,
        'the worker died with this effect in hand'
    FROM judged j
    ON CONFLICT DO NOTHING
)
UPDATE effects f
SET status = j.next_status,
    hold = CASE WHEN j.next_status = 'pending' THEN 'isolated' END,
    losses = j.losses,
    worker_id = NULL,
    ready_at = $1,
    completed_at = CASE WHEN j.next_status <> 'pending' THEN $1::timestamptz END,
    error_code = CASE j.next_status
        WHEN 'unknown' THEN 'outcome_unknown' WHEN 'failed' THEN 'worker_lost' END,
    error_message = CASE WHEN j.next_status NOT IN ('pending', 'succeeded')
        THEN 'the worker died with this effect in hand' END,
    result = CASE WHEN j.next_status = 'succeeded' THEN jsonb_build_object(
        'sid', j.provider_id, 'status', j.delivery_status, 'is_settled_by_callback', true)
        ELSE f.result END
FROM judged j
WHERE f.id = j.id
RETURNING f.id, f.execution_id, f.step_id, f.gates_step, f.family, f.status;

-- name: unsettled_steps
-- Of the next $2 steps with effects behind this one: whether each has effects that are open.
SELECT s.id, EXISTS (
    SELECT FROM effects f
    WHERE f.step_id = s.id AND f.gates_step
      AND f.status IN ('pending', 'scheduled', 'claimed', 'dispatched')
) AS is_open
FROM workflow_action_executions s
WHERE s.status = 'running' AND s.worker_id IS NULL AND s.id > $1
ORDER BY s.id
LIMIT $2;

-- name: ready_families
-- Families that have a ready step or effect in an open lane: one loose scan each.
WITH RECURSIVE step_lanes AS (
    SELECT f.family, (
        SELECT min(s.lane_id) FROM workflow_action_executions s
        WHERE s.family = f.family AND s.status = 'pending' AND s.hold IS NULL
    ) AS lane_id
    FROM unnest($1::text[]) AS f (family)
    UNION ALL
    SELECT n.family, (
        SELECT min(s.lane_id) FROM workflow_action_executions s
        WHERE s.family = n.family AND s.status = 'pending' AND s.hold IS NULL AND s.lane_id > n.lane_id
    )
    FROM step_lanes n
    WHERE n.lane_id IS NOT NULL
),
effect_lanes AS (
    SELECT f.family, (
        SELECT min(e.lane_id) FROM effects e
        WHERE e.family = f.family AND e.status = 'pending' AND e.hold IS NULL
    ) AS lane_id
    FROM unnest($1::text[]) AS f (family)
    UNION ALL
    SELECT n.family, (
        SELECT min(e.lane_id) FROM effects e
        WHERE e.family = n.family AND e.status = 'pending' AND e.hold IS NULL AND e.lane_id > n.lane_id
    )
    FROM effect_lanes n
    WHERE n.lane_id IS NOT NULL
)
SELECT l.family
FROM (SELECT lane_id FROM step_lanes UNION SELECT lane_id FROM effect_lanes) busy
JOIN open_lanes l ON l.id = busy.lane_id
UNION
SELECT s.family
FROM workflow_action_executions s
JOIN open_lanes l ON l.id = s.lane_id
WHERE s.status = 'pending' AND s.hold = 'isolated'
UNION
SELECT f.family
FROM effects f
JOIN open_lanes l ON l.id = f.lane_id
WHERE f.status = 'pending' AND f.hold = 'isolated';

-- name: has_undispatched_events
-- Whether any domain event is still to be handed on.
SELECT EXISTS (SELECT FROM domain_events v WHERE v.dispatched_at IS NULL);

-- name: overdue
-- The clock's instant if anything has fallen due that was not woken, or a timer of one of these
-- kinds has not fired; NULL otherwise. Each least instant is the first entry of an index.
SELECT c.instant
FROM (SELECT current_instant() AS instant) c
WHERE c.instant >= least(
    (SELECT min(s.scheduled_at) FROM workflow_action_executions s WHERE s.status = 'scheduled'),
    (SELECT min(s.scheduled_at) FROM workflow_action_executions s WHERE s.status = 'waiting'),
    (SELECT min(f.scheduled_at) FROM effects f WHERE f.status = 'scheduled'),
    (SELECT min(l.held_until) FROM lanes l),
    (SELECT min(t.due_at) FROM timers t WHERE t.kind = ANY ($1::text[]))
);
