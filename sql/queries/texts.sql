-- name: take_text
-- Keep that a text came in; gives a row unless it had come before.
INSERT INTO inbound_texts (account_id, provider_id, integration_id, wish, received_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
RETURNING true;

-- name: contacts_of_number
-- Lock the contacts that a number belongs to, in the order of their ids, as batches do; with the
-- action and the run of the text that each of them got last at this number.
SELECT c.id, latest.action_id, latest.execution_id
FROM contacts c
LEFT JOIN LATERAL (
    SELECT s.action_id, f.execution_id
    FROM effects f
    LEFT JOIN workflow_action_executions s ON s.id = f.step_id
    WHERE f.contact_id = c.id AND f.account_id = $1 AND f.kind = 'sms.message' AND f.address = $2
      AND f.dispatched_at IS NOT NULL
    ORDER BY f.dispatched_at DESC
    LIMIT 1
) latest ON true
WHERE c.account_id = $1 AND c.phone_normalized = $2 AND c.erased_at IS NULL
ORDER BY c.id
FOR NO KEY UPDATE OF c;

-- name: standing
-- Whether a number has opted out, and the name of the account that it texts.
SELECT a.name, EXISTS (SELECT FROM opt_outs_of($1, 'sms', $2)) AS has_opted_out
FROM accounts a
WHERE a.id = $1;
