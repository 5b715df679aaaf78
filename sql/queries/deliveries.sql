-- name: lock_effect
-- Lock an effect that a provider reports on; NULL columns where it belongs to no step.
SELECT f.id, f.account_id, f.kind, f.family, f.status, f.attempt, f.provider_id, f.delivery_status,
    f.retries, f.step_id, f.gates_step, f.contact_id, f.execution_id, f.channel, f.address, f.request
FROM effects f
WHERE f.account_id = $1 AND f.id = $2 AND f.integration_id = $3
FOR NO KEY UPDATE;

-- name: add_report
-- Keep a report; gives the attempt that it belongs to, or no row when it was known.
INSERT INTO effect_reports
    (effect_id, provider_id, status, account_id, attempt, error_code, detail, reported_at)
VALUES ($1, $2, $3, $4,
    -- What was first heard of under an earlier attempt goes on to be that one's.
    coalesce((SELECT min(r.attempt) FROM effect_reports r
              WHERE r.effect_id = $1 AND r.provider_id = $2), $5),
    $6, $7, $8)
ON CONFLICT DO NOTHING
RETURNING attempt;

-- name: details_of_reports
-- What the reports on one attempt at the provider have said, oldest first.
SELECT r.status, r.detail
FROM effect_reports r
WHERE r.effect_id = $1 AND r.provider_id = $2
ORDER BY r.reported_at;

-- name: note_delivery
-- Say on the effect itself how far it has come, and how the provider calls it. An outcome that was
-- unknown is known now: it has arrived there.
UPDATE effects f
SET provider_id = $2,
    delivery_status = $3::text,
    delivery_failure = $4,
    status = CASE WHEN f.status = 'unknown' THEN 'succeeded' ELSE f.status END,
    error_code = CASE WHEN f.status <> 'unknown' THEN f.error_code END,
    error_message = CASE WHEN f.status <> 'unknown' THEN f.error_message END,
    result = CASE WHEN f.status = 'unknown'
        THEN jsonb_build_object('sid', $2::text, 'status', $3::text, 'is_settled_by_callback', true)
        ELSE f.result END
WHERE f.id = $1;

-- name: log_settled
-- The log row of an attempt whose outcome the provider's report has settled.
INSERT INTO effect_attempts
    (effect_id, attempt, account_id, started_at, finished_at, outcome, is_late, result)
VALUES ($1, $2, $3, $4, $4, 'succeeded', true, $5)
ON CONFLICT (effect_id, attempt, is_late) DO NOTHING;

-- name: undelivered
-- What was accepted and then not delivered: to be sent once more at an instant, or failed for good.
-- What was said of the attempt before is forgotten with it.
UPDATE effects f
SET status = CASE WHEN r.scheduled_at IS NULL THEN 'failed' ELSE 'scheduled' END,
    scheduled_at = r.scheduled_at,
    error_code = r.error_code,
    error_message = r.error_message,
    retries = r.retries,
    result = CASE WHEN r.scheduled_at IS NULL THEN f.result END,
    provider_id = CASE WHEN r.scheduled_at IS NULL THEN f.provider_id END,
    delivery_status = CASE WHEN r.scheduled_at IS NULL THEN f.delivery_status END,
    delivery_failure = NULL,
    completed_at = CASE WHEN r.scheduled_at IS NULL THEN $6::timestamptz END
FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::jsonb[])
    AS r (id, scheduled_at, error_code, error_message, retries)
WHERE f.id = r.id AND f.status = 'succeeded';
