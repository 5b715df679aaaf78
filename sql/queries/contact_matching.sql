-- name: lock_buckets
-- Lock buckets of phone numbers until the transaction ends, in the given order.
SELECT pg_advisory_xact_lock($1::integer, bucket) FROM unnest($2::integer[]) AS bucket;

-- name: find_contacts
-- The contact that owns each (account, kind, address); one row per address that has any. Erased
-- contacts have no address.
SELECT k.account_id, k.kind, k.address, owner.id
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS k (account_id, kind, address)
CROSS JOIN LATERAL (
    (
        SELECT c.id
        FROM contacts c
        WHERE k.kind = 'email' AND c.account_id = k.account_id AND c.email_normalized = k.address
            AND NOT c.is_duplicate
    )
    UNION ALL
    (
        SELECT c.id
        FROM contacts c
        WHERE k.kind = 'phone' AND c.account_id = k.account_id AND c.phone_normalized = k.address
            AND NOT c.is_duplicate
        ORDER BY c.id
        LIMIT 1
    )
) owner;

-- name: create_contacts
-- Make contacts, in the given order; one whose e-mail another transaction took is left out.
INSERT INTO contacts (
    id, account_id, first_name, last_name, email, email_normalized, phone, phone_normalized,
    custom_fields, is_duplicate, created_at, updated_at
)
SELECT
    w.id, w.account_id, w.first_name, w.last_name, w.email, w.email_normalized, w.phone,
    w.phone_normalized, w.custom_fields, w.is_duplicate, $11, $11
FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::jsonb[], $10::boolean[]
    ) AS w (
        id, account_id, first_name, last_name, email, email_normalized, phone, phone_normalized,
        custom_fields, is_duplicate
    )
ON CONFLICT (account_id, email_normalized)
    WHERE NOT is_duplicate AND email_normalized IS NOT NULL DO NOTHING
RETURNING id;

-- name: lock_contacts
-- Lock contacts in the order of their ids and read them.
SELECT
    c.id, c.account_id, c.first_name, c.last_name, c.email, c.email_normalized, c.phone,
    c.phone_normalized, c.time_zone, c.owner_id, c.custom_fields, c.created_at, c.updated_at
FROM contacts c
WHERE (c.account_id, c.id) IN (
    SELECT w.account_id, w.id FROM unnest($1::uuid[], $2::uuid[]) AS w (id, account_id)
)
ORDER BY c.id
FOR NO KEY UPDATE OF c;
