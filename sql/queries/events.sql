-- name: lock_contacts
-- Lock the contacts of incoming events in the order of their ids, as batches do.
SELECT c.id
FROM contacts c
WHERE (c.account_id, c.id) IN (
    SELECT w.account_id, w.contact_id FROM unnest($1::uuid[], $2::uuid[]) AS w (account_id, contact_id)
)
ORDER BY c.id
FOR NO KEY UPDATE;

-- name: reserve_ids
-- Ids for so many events, so that what was stored is known by its id.
SELECT nextval(pg_get_serial_sequence('domain_events', 'id')) AS id FROM generate_series(1, $1);

-- name: add_events
-- Store events of contacts that their account has, each dedupe key once; undispatched only
-- where an active workflow listens. Gives those that were stored.
INSERT INTO domain_events
    (id, account_id, event_type, contact_id, payload, action_id, execution_id, dedupe_key,
     occurred_at, dispatched_at)
OVERRIDING SYSTEM VALUE
SELECT w.id, w.account_id, w.event_type, w.contact_id, w.payload, w.action_id, w.execution_id,
    w.dedupe_key, w.occurred_at,
    CASE WHEN NOT EXISTS (
        SELECT FROM workflow_triggers t
        WHERE t.account_id = w.account_id AND t.event_type = w.event_type
    ) THEN $10::timestamptz END
FROM unnest(
    $1::bigint[], $2::uuid[], $3::text[], $4::uuid[], $5::jsonb[], $6::uuid[], $7::uuid[],
    $8::text[], $9::timestamptz[]
) AS w (
    id, account_id, event_type, contact_id, payload, action_id, execution_id, dedupe_key,
    occurred_at
)
JOIN contacts c ON c.id = w.contact_id AND c.account_id = w.account_id AND c.erased_at IS NULL
-- In one order of keys, so that two intakes of the same events cannot deadlock.
ORDER BY w.dedupe_key, w.id
ON CONFLICT (account_id, dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING
RETURNING id, dispatched_at IS NULL AS is_undispatched;

-- name: end_waits
-- Make the steps ready that wait for one of these events; a statement of its own, after the
-- contacts were locked. Gives their families.
WITH winners AS (
    SELECT DISTINCT ON (s.id) s.id, v.id AS event_id
    FROM domain_events v
    JOIN workflow_action_executions s
        ON s.contact_id = v.contact_id
        AND s.account_id = v.account_id
        AND s.status = 'waiting'
        AND s.waiting_for = v.event_type
        AND (s.waiting_action_id IS NULL OR s.waiting_action_id = v.action_id)
        AND (
            s.waiting_action_id IS NULL OR v.execution_id IS NULL
            OR v.execution_id = s.workflow_execution_id
        )
    WHERE v.id = ANY ($1::bigint[])
    ORDER BY s.id, v.occurred_at, v.id
)
UPDATE workflow_action_executions s
SET status = 'pending', event_id = w.event_id, ready_at = $2
FROM winners w
-- Looked at again under the row's lock: if the time-out came first, it has won.
WHERE s.id = w.id AND s.status = 'waiting'
RETURNING s.family;

-- name: stopped_by_reply
-- The live runs, in workflows that a reply stops, of the contacts of these events.
SELECT DISTINCT e.account_id, e.id
FROM domain_events v
JOIN workflow_executions e ON e.contact_id = v.contact_id AND e.account_id = v.account_id
JOIN workflows w ON w.id = e.workflow_id
WHERE v.id = ANY ($1::bigint[]) AND e.status IN ('running', 'paused')
  AND w.settings @> '{"stop_on_reply": true}';

-- name: claim_events
-- Claim undispatched events, oldest first, and mark them as handed on.
UPDATE domain_events v
SET dispatched_at = $2
WHERE v.id IN (
    SELECT o.id
    FROM domain_events o
    WHERE o.dispatched_at IS NULL
    ORDER BY o.id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
RETURNING v.id, v.account_id, v.event_type, v.contact_id, v.payload, v.event_depth;

-- name: triggers
-- What active workflows of these accounts are started by.
SELECT t.workflow_id, t.account_id, t.event_type, t.conditions
FROM workflow_triggers t
WHERE t.account_id = ANY ($1::uuid[])
ORDER BY t.workflow_id;

-- name: contacts
-- The fields of contacts that conditions may name.
SELECT c.id, c.first_name, c.last_name, c.email, c.phone, c.time_zone, c.owner_id::text, c.custom_fields
FROM contacts c
WHERE c.id = ANY ($1::uuid[]) AND c.erased_at IS NULL;

-- name: refuse
-- Write down who was not enrolled, and why.
INSERT INTO enrollment_refusals (account_id, workflow_id, contact_id, event_id, reason, refused_at)
SELECT r.account_id, r.workflow_id, r.contact_id, r.event_id, r.reason, $6
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[])
    AS r (account_id, workflow_id, contact_id, event_id, reason);

-- name: known_places
-- Which of these executions and actions, deleted ones too, the account has.
SELECT 'execution' AS kind, e.id FROM workflow_executions e
WHERE e.account_id = $1 AND e.id = ANY ($2::uuid[])
UNION ALL
SELECT 'action', a.id FROM workflow_actions a
WHERE a.account_id = $1 AND a.id = ANY ($3::uuid[]);

-- name: known_contacts
-- Which of these contacts the account has, other than as erased ones.
SELECT c.id FROM contacts c
WHERE c.account_id = $1 AND c.id = ANY ($2::uuid[]) AND c.erased_at IS NULL;
