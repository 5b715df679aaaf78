-- name: set_timer
-- Set a timer, or move the one that has the same key.
INSERT INTO timers (account_id, kind, due_at, payload, dedupe_key)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (account_id, kind, dedupe_key)
    DO UPDATE SET due_at = excluded.due_at, payload = excluded.payload, failures = 0;

-- name: take_due
-- Take due timers of a kind away, for the transaction that fires them.
DELETE FROM timers t
WHERE t.id IN (
    SELECT d.id FROM timers d
    WHERE d.kind = $1 AND d.due_at <= $2
    ORDER BY d.due_at, d.id
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
RETURNING t.id, t.account_id, t.kind, t.due_at, t.payload;

-- name: put_off
-- Put timers off by a minute after their firing failed.
UPDATE timers t
SET due_at = $2::timestamptz + interval '1 minute', failures = t.failures + 1
WHERE t.id = ANY ($1::bigint[]);
