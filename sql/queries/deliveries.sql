-- name: lock_effects
-- Lock the effects that providers report on, with the action whose steps they belong to.
SELECT f.id, f.account_id, f.integration_id, f.kind, f.family, f.status, f.attempt, f.provider_id,
    f.delivery_status, f.delivery_failure, f.retries, f.step_id, f.gates_step, f.contact_id,
    f.execution_id, f.channel, f.address, f.request, s.action_id
FROM effects f
LEFT JOIN workflow_action_executions s ON s.id = f.step_id
WHERE (f.account_id, f.id, f.integration_id) IN (
    SELECT w.account_id, w.id, w.integration_id
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS w (account_id, id, integration_id)
)
ORDER BY f.id
FOR NO KEY UPDATE OF f;

-- name: add_reports
-- Keep reports; gives those that were not known, with the attempt that each belongs to.
INSERT INTO effect_reports
    (effect_id, provider_id, status, account_id, attempt, error_code, detail, reported_at)
SELECT w.effect_id, w.provider_id, w.status, w.account_id,
    -- What was first heard of under an earlier attempt goes on to be that one's.
    coalesce((SELECT min(r.attempt) FROM effect_reports r
              WHERE r.effect_id = w.effect_id AND r.provider_id = w.provider_id), w.attempt),
    w.error_code, w.detail, $8
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::integer[], $6::text[], $7::jsonb[])
    AS w (effect_id, provider_id, status, account_id, attempt, error_code, detail)
ON CONFLICT DO NOTHING
RETURNING effect_id, provider_id, status, attempt;

-- name: details_of_reports
-- What the reports on attempts at the provider have said, oldest first.
SELECT r.effect_id, r.provider_id, r.detail
FROM effect_reports r
WHERE (r.effect_id, r.provider_id) IN (
    SELECT w.effect_id, w.provider_id
    FROM unnest($1::uuid[], $2::text[]) AS w (effect_id, provider_id)
)
ORDER BY r.reported_at;

-- name: note_deliveries
-- Say on effects themselves how far they have come, and how the provider calls them. An outcome
-- that was unknown is known now: it has arrived there.
UPDATE effects f
SET provider_id = w.provider_id,
    delivery_status = w.delivery_status,
    delivery_failure = w.delivery_failure,
    status = CASE WHEN f.status = 'unknown' THEN 'succeeded' ELSE f.status END,
    error_code = CASE WHEN f.status <> 'unknown' THEN f.error_code END,
    error_message = CASE WHEN f.status <> 'unknown' THEN f.error_message END,
    result = CASE WHEN f.status = 'unknown'
        THEN jsonb_build_object('sid', w.provider_id, 'status', w.delivery_status, 'is_settled_by_callback', true)
        ELSE f.result END
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[])
    AS w (id, provider_id, delivery_status, delivery_failure)
WHERE f.id = w.id;

-- name: log_settled
-- The log rows of attempts whose outcomes the provider's reports have settled.
INSERT INTO effect_attempts
    (effect_id, attempt, account_id, started_at, finished_at, outcome, is_late, result)
SELECT w.effect_id, w.attempt, w.account_id, $5, $5, 'succeeded', true, w.result
FROM unnest($1::uuid[], $2::integer[], $3::uuid[], $4::jsonb[]) AS w (effect_id, attempt, account_id, result)
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
