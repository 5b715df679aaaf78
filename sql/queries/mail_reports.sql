-- name: find_mails
-- Mails that reports speak of, with whom they went to and which action sent them.
SELECT f.id, f.account_id, f.contact_id, f.execution_id, f.address, f.dispatched_at, s.action_id
FROM effects f
LEFT JOIN workflow_action_executions s ON s.id = f.step_id
WHERE f.account_id = $1 AND f.id = ANY ($2::uuid[]) AND f.kind = 'email.message'
  AND ($3::uuid IS NULL OR f.integration_id = $3);

-- name: find_accounts
-- Whose the mails are that signed tokens name; and what time it is.
SELECT f.id, f.account_id, (SELECT current_instant()) AS now
FROM effects f
WHERE f.id = ANY ($1::uuid[]) AND f.kind = 'email.message';

-- name: lock_mails
-- Lock mails in the order of their ids, and see how far each has come.
SELECT f.id, f.delivery_status
FROM effects f
WHERE f.account_id = $1 AND f.id = ANY ($2::uuid[])
ORDER BY f.id
FOR NO KEY UPDATE;

-- name: add_reports
-- Keep reports, each kind once for a mail and a source.
INSERT INTO effect_reports (effect_id, provider_id, status, account_id, attempt, detail, reported_at)
SELECT f.id, w.source, w.status, f.account_id, f.attempt, w.detail, $6
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::jsonb[]) AS w (effect_id, source, status, detail)
JOIN effects f ON f.account_id = $1 AND f.id = w.effect_id
ORDER BY 1, 2, 3
ON CONFLICT DO NOTHING;

-- name: note_deliveries
-- Say on the mails themselves how far they have come.
UPDATE effects f
SET delivery_status = w.status
FROM unnest($2::uuid[], $3::text[]) AS w (effect_id, status)
WHERE f.account_id = $1 AND f.id = w.effect_id;
