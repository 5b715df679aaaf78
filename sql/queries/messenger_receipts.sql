-- name: echoed
-- The messages that echoes name, with the ids that Facebook gave them.
SELECT f.id, w.mid
FROM unnest($2::uuid[], $3::text[], $4::text[]) AS w (effect_id, address, mid)
JOIN effects f ON f.account_id = $1 AND f.id = w.effect_id AND f.address = w.address
    AND f.kind = 'messenger.message' AND f.status IN ('dispatched', 'succeeded', 'unknown');

-- name: due
-- Messages that have come further than is written down: those to people in $2 that went out
-- before an instant, and those that are named.
WITH came AS (
    SELECT f.id, f.provider_id, m.status
    FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[])
        AS w (address, delivered_until, read_until)
    CROSS JOIN LATERAL (VALUES ('delivered', w.delivered_until), ('read', w.read_until))
        AS m (status, until)
    JOIN effects f ON f.account_id = $1 AND f.address = w.address
        AND f.kind = 'messenger.message' AND f.dispatched_at <= m.until
    UNION
    SELECT f.id, f.provider_id, 'delivered'
    FROM unnest($5::text[], $6::text[]) AS n (address, mid)
    JOIN effects f ON f.account_id = $1 AND f.address = n.address
        AND f.kind = 'messenger.message' AND f.provider_id = n.mid
)
SELECT c.id, c.provider_id, c.status
FROM came c
WHERE c.provider_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM effect_reports r
    WHERE r.effect_id = c.id AND r.provider_id = c.provider_id AND r.status = c.status
)
ORDER BY c.id
LIMIT 5000;

-- name: lock
-- Lock messages in the order of their ids, and see how they stand.
SELECT f.id, f.status, f.attempt, f.provider_id, f.delivery_status
FROM effects f
WHERE f.account_id = $1 AND f.id = ANY ($2::uuid[])
ORDER BY f.id
FOR NO KEY UPDATE;

-- name: add_reports
-- Keep reports, each once; gives those that are new, with the attempt that they belong to: what
-- was first heard of under an earlier attempt goes on to be that one's.
INSERT INTO effect_reports (effect_id, provider_id, status, account_id, attempt, reported_at)
SELECT f.id, w.provider_id, w.status, f.account_id,
    coalesce((SELECT min(r.attempt) FROM effect_reports r
              WHERE r.effect_id = f.id AND r.provider_id = w.provider_id), f.attempt),
    $5
FROM unnest($2::uuid[], $3::text[], $4::text[]) AS w (effect_id, provider_id, status)
JOIN effects f ON f.account_id = $1 AND f.id = w.effect_id
ORDER BY 1, 2, 3
ON CONFLICT DO NOTHING
RETURNING effect_id, provider_id, status, attempt;

-- name: note
-- Say on messages how far they have come, and how Facebook calls them. An outcome that was unknown
-- is known now: it has arrived there.
UPDATE effects f
SET provider_id = w.provider_id,
    delivery_status = w.status,
    status = CASE WHEN f.status = 'unknown' THEN 'succeeded' ELSE f.status END,
    error_code = CASE WHEN f.status <> 'unknown' THEN f.error_code END,
    error_message = CASE WHEN f.status <> 'unknown' THEN f.error_message END,
    result = CASE WHEN f.status = 'unknown' AND NOT f.request ? 'erased'
        THEN jsonb_build_object(
            'sid', w.provider_id, 'status', w.status, 'is_settled_by_callback', true)
        ELSE f.result END
FROM unnest($2::uuid[], $3::text[], $4::text[]) AS w (effect_id, provider_id, status)
WHERE f.account_id = $1 AND f.id = w.effect_id
  AND f.status IN ('dispatched', 'succeeded', 'unknown');

-- name: log_settled
-- The log rows of attempts whose outcomes were unknown until now; before the messages say so.
INSERT INTO effect_attempts
    (effect_id, attempt, account_id, started_at, finished_at, outcome, is_late, result)
SELECT f.id, f.attempt, f.account_id, $5, $5, 'succeeded', true,
    jsonb_build_object('sid', w.provider_id, 'status', w.status)
FROM unnest($2::uuid[], $3::text[], $4::text[]) AS w (effect_id, provider_id, status)
JOIN effects f ON f.account_id = $1 AND f.id = w.effect_id AND f.status = 'unknown'
ORDER BY f.id
ON CONFLICT (effect_id, attempt, is_late) DO NOTHING;

-- name: look_again
-- Set a timer for each message to these people that has come further, but whose call's answer is
-- not recorded yet.
INSERT INTO timers (account_id, kind, due_at, payload, dedupe_key)
SELECT f.account_id, $5, $6, jsonb_build_object('effect_id', f.id), f.id::text
FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[])
    AS w (address, delivered_until, read_until)
JOIN effects f ON f.account_id = $1 AND f.address = w.address AND f.kind = 'messenger.message'
    AND f.status = 'dispatched' AND f.provider_id IS NULL
    AND f.dispatched_at <= greatest(w.delivered_until, w.read_until)
ORDER BY f.id
ON CONFLICT (account_id, kind, dedupe_key) DO NOTHING;

-- name: marks_of
-- How far the messages to the people whom these effects went to have come.
SELECT DISTINCT m.address, m.delivered_until, m.read_until
FROM effects f
JOIN messenger_people m ON m.account_id = f.account_id AND m.address = f.address
WHERE f.account_id = $1 AND f.id = ANY ($2::uuid[]);
