-- name: wake_steps
-- Make up to $2 sleeping steps ready whose instant has come, longest due first.
WITH due AS (
    SELECT s.id
    FROM workflow_action_executions s
    WHERE s.status = 'scheduled' AND s.scheduled_at <= $1
    ORDER BY s.scheduled_at
    LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
),
woken AS (
    UPDATE workflow_action_executions s
    SET status = 'pending', ready_at = $1
    FROM due
    WHERE s.id = due.id
    RETURNING s.family
)
SELECT family, count(*) AS woken FROM woken GROUP BY family;

-- name: time_out_waits
-- Make up to $2 steps ready whose event did not come in time.
WITH due AS (
    SELECT s.id
    FROM workflow_action_executions s
    WHERE s.status = 'waiting' AND s.scheduled_at <= $1
    ORDER BY s.scheduled_at
    LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
),
woken AS (
    UPDATE workflow_action_executions s
    SET status = 'pending', ready_at = $1
    FROM due
    WHERE s.id = due.id
    RETURNING s.family
)
SELECT family, count(*) AS woken FROM woken GROUP BY family;

-- name: wake_effects
-- Make up to $2 effects ready whose next try has come.
WITH due AS (
    SELECT f.id
    FROM effects f
    WHERE f.status = 'scheduled' AND f.scheduled_at <= $1
    ORDER BY f.scheduled_at
    LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
),
woken AS (
    UPDATE effects f
    SET status = 'pending', ready_at = $1
    FROM due
    WHERE f.id = due.id
    RETURNING f.family
)
SELECT family, count(*) AS woken FROM woken GROUP BY family;

-- name: release_lanes
-- Open the lanes whose hold is over; gives their families.
UPDATE lanes l
SET held_until = NULL, held_reason = NULL
WHERE l.id IN (
    SELECT o.id FROM lanes o WHERE o.held_until <= $1 ORDER BY o.id FOR NO KEY UPDATE
) AND l.held_until <= $1
RETURNING l.family;

-- name: due_buckets
-- The buckets of width $3, from the one that ends at $1 until $2, in which anything falls due.
SELECT b.bucket
FROM generate_series($1::timestamptz, $2::timestamptz, $3::interval) AS b (bucket)
WHERE EXISTS (
    SELECT FROM workflow_action_executions s
    WHERE s.status = 'scheduled' AND s.scheduled_at > b.bucket - $3::interval AND s.scheduled_at <= b.bucket
)
OR EXISTS (
    SELECT FROM workflow_action_executions s
    WHERE s.status = 'waiting' AND s.scheduled_at > b.bucket - $3::interval AND s.scheduled_at <= b.bucket
)
OR EXISTS (
    SELECT FROM effects f
    WHERE f.status = 'scheduled' AND f.scheduled_at > b.bucket - $3::interval AND f.scheduled_at <= b.bucket
)
OR EXISTS (
    SELECT FROM lanes l
    WHERE l.held_until > b.bucket - $3::interval AND l.held_until <= b.bucket
)
OR EXISTS (
    SELECT FROM timers t
    WHERE t.due_at > b.bucket - $3::interval AND t.due_at <= b.bucket
);
