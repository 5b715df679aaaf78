-- name: integration
-- One integration with its addresses, secrets still sealed; removed ones too.
SELECT i.id, i.account_id, i.kind, i.name, i.settings, i.secrets, c.is_test,
    i.disabled_at IS NOT NULL AS is_disabled, i.deleted_at IS NOT NULL AS is_deleted,
    ARRAY(
        SELECT a.address FROM sender_addresses a WHERE a.integration_id = i.id ORDER BY a.ordinal
    ) AS addresses
FROM integrations i
JOIN accounts c ON c.id = i.account_id
WHERE i.id = $1;

-- name: find_senders
-- The integrations that own these addresses, whole ones before domains, one for each place in the
-- arrays at most. A page is found by the id of its integration as well ($5).
SELECT w.place, f.id, f.is_disabled
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[])
    WITH ORDINALITY AS w (account_id, kind, address, domain, integration_id, place)
CROSS JOIN LATERAL (
    SELECT o.id, o.is_disabled
    FROM (
        SELECT i.id, i.disabled_at IS NOT NULL AS is_disabled, a.address = w.domain AS is_domain
        FROM sender_addresses a
        JOIN integrations i ON i.id = a.integration_id
        WHERE a.account_id = w.account_id AND a.kind = w.kind AND a.address IN (w.address, w.domain)
        UNION ALL
        SELECT i.id, i.disabled_at IS NOT NULL, false
        FROM integrations i
        WHERE i.id = w.integration_id AND i.account_id = w.account_id AND i.kind = w.kind
          AND i.deleted_at IS NULL
    ) o
    ORDER BY o.is_domain
    LIMIT 1
) f;

-- name: default_senders
-- The oldest enabled integration of each account and kind that has an address of its own, and that
-- address.
SELECT DISTINCT ON (i.account_id, i.kind) i.account_id, i.kind, i.id, a.address
FROM integrations i
JOIN sender_addresses a ON a.integration_id = i.id
WHERE i.account_id = ANY ($1::uuid[]) AND i.kind = ANY ($2::text[]) AND i.deleted_at IS NULL
  AND i.disabled_at IS NULL AND a.address NOT LIKE '@%'
ORDER BY i.account_id, i.kind, i.created_at, i.id, a.ordinal;

-- name: integrations_by_address
-- The live integrations, of whichever account, that own an address: for what comes in by it.
SELECT i.id
FROM sender_addresses a
JOIN integrations i ON i.id = a.integration_id
WHERE a.kind = $1 AND a.address = $2 AND i.deleted_at IS NULL
ORDER BY i.created_at, i.id;
