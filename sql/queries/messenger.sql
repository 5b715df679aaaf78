-- name: parties
-- For each place in the arrays the page's integration, if it is there, and the person that the
-- contact is on that page; of several the one who wrote last.
SELECT w.place, i.id AS integration_id, i.disabled_at IS NOT NULL AS is_disabled,
    p.page, p.psid, p.address
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[])
    WITH ORDINALITY AS w (account_id, integration_id, contact_id, place)
LEFT JOIN integrations i ON i.id = w.integration_id AND i.account_id = w.account_id
    AND i.kind = 'facebook' AND i.deleted_at IS NULL
LEFT JOIN LATERAL (
    SELECT m.page, m.psid, m.address
    FROM messenger_people m
    JOIN sender_addresses s ON s.integration_id = i.id AND s.address = m.page
    WHERE m.account_id = w.account_id AND m.contact_id = w.contact_id
    ORDER BY m.last_inbound_at DESC NULLS LAST, m.psid
    LIMIT 1
) p ON true
ORDER BY w.place;

-- name: standings
-- What is known of the people at these addresses just before something goes out to them.
SELECT w.place, m.last_inbound_at, m.contact_id
FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS w (account_id, address, place)
LEFT JOIN messenger_people m ON m.account_id = w.account_id AND m.address = w.address
ORDER BY w.place;

-- name: take_acts
-- Keep that people did something; gives what had not come before.
INSERT INTO inbound_texts (account_id, provider_id, integration_id, wish, received_at)
SELECT $1, w.key, $3, w.wish, $5
FROM unnest($2::text[], $4::text[]) AS w (key, wish)
ORDER BY w.key
ON CONFLICT DO NOTHING
RETURNING provider_id;

-- name: contacts_of
-- The contacts that people are.
SELECT m.address, m.contact_id FROM messenger_people m
WHERE m.account_id = $1 AND m.address = ANY ($2::text[]) AND m.contact_id IS NOT NULL;

-- name: lock_contact
-- Lock a contact; no row when there is none, or it was erased.
SELECT c.id FROM contacts c
WHERE c.account_id = $1 AND c.id = $2 AND c.erased_at IS NULL
FOR NO KEY UPDATE;

-- name: lock_contacts
-- Lock contacts in the order of their ids; gives those that were not erased.
SELECT c.id FROM contacts c
WHERE c.account_id = $1 AND c.id = ANY ($2::uuid[]) AND c.erased_at IS NULL
ORDER BY c.id
FOR NO KEY UPDATE;

-- name: know_people
-- Keep what people did, in whatever order it is told; a link to a contact stays as it is.
INSERT INTO messenger_people AS m
    (account_id, page, psid, contact_id, last_inbound_at, delivered_until, read_until)
SELECT $1, w.page, w.psid, w.contact_id, w.wrote_at, w.delivered_until, w.read_until
FROM unnest(
    $2::text[], $3::text[], $4::uuid[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[]
) AS w (page, psid, contact_id, wrote_at, delivered_until, read_until)
ORDER BY w.page, w.psid
ON CONFLICT (account_id, page, psid) DO UPDATE
SET contact_id = coalesce(m.contact_id, excluded.contact_id),
    last_inbound_at = greatest(m.last_inbound_at, excluded.last_inbound_at),
    delivered_until = greatest(m.delivered_until, excluded.delivered_until),
    read_until = greatest(m.read_until, excluded.read_until)
RETURNING m.address, m.contact_id, m.delivered_until, m.read_until;

-- name: unlink
-- Make a contact's people on one page nobody's; gives how many there were.
WITH unlinked AS (
    UPDATE messenger_people m SET contact_id = NULL
    FROM sender_addresses s
    WHERE m.account_id = $1 AND m.contact_id = $2 AND s.account_id = m.account_id
        AND s.kind = 'facebook' AND s.integration_id = $3 AND s.address = m.page
    RETURNING m.psid
)
SELECT count(*) FROM unlinked;

-- name: latest
-- The action and the run of the message that each person got last.
SELECT w.address, l.action_id, l.execution_id
FROM unnest($2::text[], $3::uuid[]) AS w (address, contact_id)
LEFT JOIN LATERAL (
    SELECT s.action_id, f.execution_id
    FROM effects f
    LEFT JOIN workflow_action_executions s ON s.id = f.step_id
    WHERE f.account_id = $1 AND f.address = w.address AND f.kind = 'messenger.message'
      AND f.contact_id = w.contact_id AND f.dispatched_at IS NOT NULL
    ORDER BY f.dispatched_at DESC
    LIMIT 1
) l ON true;

-- name: pages
-- The numbers of an account's pages with their integrations, or those of one integration.
SELECT s.address AS page, i.id AS page_id
FROM integrations i
JOIN sender_addresses s ON s.integration_id = i.id
WHERE i.account_id = $1 AND i.kind = 'facebook' AND i.deleted_at IS NULL
  AND ($2::uuid IS NULL OR i.id = $2)
ORDER BY i.created_at, i.id, s.ordinal;

-- name: people_of_contact
-- Who a contact is on Messenger.
SELECT m.page, m.psid, m.last_inbound_at,
    EXISTS (SELECT FROM opt_outs_of(m.account_id, 'messenger', m.address)) AS has_opted_out
FROM messenger_people m
WHERE m.account_id = $1 AND m.contact_id = $2
ORDER BY m.page, m.psid;

-- name: opted_out
-- Which of these people have opted out.
SELECT DISTINCT w.address
FROM unnest($2::text[]) AS w (address)
WHERE EXISTS (SELECT FROM opt_outs_of($1, 'messenger', w.address));

-- name: has_contact
-- Whether an account has a contact that was not erased.
SELECT true FROM contacts c WHERE c.account_id = $1 AND c.id = $2 AND c.erased_at IS NULL;
