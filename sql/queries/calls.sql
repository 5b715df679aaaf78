-- name: lock_contacts_of_effects
-- Lock the contacts of effects, as whoever changes their runs does first.
SELECT c.id
FROM contacts c
WHERE c.id IN (
    SELECT f.contact_id
    FROM effects f
    JOIN unnest($1::uuid[], $2::uuid[]) AS w (account_id, id)
        ON f.account_id = w.account_id AND f.id = w.id
)
ORDER BY c.id
FOR NO KEY UPDATE;

-- name: call
-- What a call that was placed is to do: its effect, and in whose name it calls.
SELECT f.id, f.account_id, f.kind, f.integration_id, f.request, f.contact_id,
    a.name AS account_name
FROM effects f
JOIN accounts a ON a.id = f.account_id
WHERE f.account_id = $1 AND f.id = $2 AND f.integration_id = $3 AND f.family = 'voice';

-- name: add_to_end
-- Add to the event of a call's end; one whose contact was erased stays empty.
UPDATE domain_events v
SET payload = v.payload || $3::jsonb
WHERE v.account_id = $1 AND v.dedupe_key = $2 AND v.payload ? 'sid';

-- name: add_to_step
-- Add to the result of the step that a call has ended, if it is this call that it tells of.
UPDATE workflow_action_executions s
SET result_data = s.result_data || $4::jsonb
FROM effects f
WHERE f.account_id = $1 AND f.id = $2 AND s.account_id = $1 AND s.id = f.step_id
  AND s.status = 'completed' AND s.result_data ->> 'sid' = $3::text;

-- name: phones_of_users
-- Where users are reached.
SELECT u.account_id, u.id, u.phone
FROM users u
WHERE (u.account_id, u.id) IN (
    SELECT w.account_id, w.id FROM unnest($1::uuid[], $2::uuid[]) AS w (account_id, id)
);
