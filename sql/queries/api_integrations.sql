-- name: integrations
-- The integrations of an account, oldest first, optionally of one kind or that one alone.
SELECT i.id, i.kind, i.name, i.settings, i.rate_per_second, i.burst, i.max_concurrent,
    i.breaker_failures, i.breaker_window_seconds, i.breaker_open_seconds,
    i.disabled_at IS NOT NULL AS is_disabled, i.created_at, i.updated_at,
    ARRAY(
        SELECT a.address FROM sender_addresses a WHERE a.integration_id = i.id ORDER BY a.ordinal
    ) AS addresses,
    ARRAY(SELECT jsonb_object_keys(i.secrets)) AS secrets_set,
    coalesce(b.state, 'closed') AS breaker, b.open_until AS breaker_open_until
FROM integrations i
LEFT JOIN circuit_breakers b ON b.integration_id = i.id
WHERE i.account_id = $1 AND i.deleted_at IS NULL
  -- The hosts of webhooks are integrations as well, which nobody set up.
  AND i.kind IN ('smtp', 'twilio', 'facebook')
  AND ($2::text IS NULL OR i.kind = $2)
  AND ($3::uuid IS NULL OR i.id = $3)
ORDER BY i.created_at, i.id;

-- name: lock_integration
-- Lock an integration against other changes; gives its kind.
SELECT i.kind FROM integrations i
WHERE i.account_id = $1 AND i.id = $2 AND i.deleted_at IS NULL
  AND i.kind IN ('smtp', 'twilio', 'facebook')
FOR NO KEY UPDATE;

-- name: add_integration
-- Make an integration.
INSERT INTO integrations
    (id, account_id, kind, name, settings, secrets, rate_per_second, burst, max_concurrent,
     breaker_failures, breaker_window_seconds, breaker_open_seconds, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13);

-- name: change_integration
-- Change an integration; what is NULL stays. Secrets are merged, those in $6 removed. A limit
-- that is to go (named in $13) becomes NULL.
UPDATE integrations i
SET name = coalesce($3, i.name),
    settings = coalesce($4, i.settings),
    secrets = (i.secrets || coalesce($5, '{}'::jsonb)) - $6::text[],
    rate_per_second = CASE WHEN 'rate_per_second' = ANY ($13::text[]) THEN NULL
        ELSE coalesce($7, i.rate_per_second) END,
    burst = coalesce($8, i.burst),
    max_concurrent = CASE WHEN 'max_concurrent' = ANY ($13::text[]) THEN NULL
        ELSE coalesce($9, i.max_concurrent) END,
    breaker_failures = coalesce($10, i.breaker_failures),
    breaker_window_seconds = coalesce($11, i.breaker_window_seconds),
    breaker_open_seconds = coalesce($12, i.breaker_open_seconds),
    updated_at = $14
WHERE i.account_id = $1 AND i.id = $2;

-- name: drop_addresses
-- Take its addresses from an integration.
DELETE FROM sender_addresses a WHERE a.account_id = $1 AND a.integration_id = $2;

-- name: add_addresses
-- Give addresses to an integration, in the order of the addresses, so that two cannot deadlock;
-- gives those that were free.
INSERT INTO sender_addresses (account_id, kind, address, integration_id, ordinal)
SELECT $1, $2, w.address, $3, w.ordinal
FROM unnest($4::text[]) WITH ORDINALITY AS w (address, ordinal)
ORDER BY w.address
ON CONFLICT (account_id, kind, address) DO NOTHING
RETURNING address;

-- name: refill
-- Let new limits begin with a full burst: an arrival that the old ones put far ahead says nothing.
UPDATE rate_limits r SET tat = least(r.tat, $2) WHERE r.integration_id = $1;

-- name: free_lanes
-- Open the lanes that the old limits hold; gives their families.
UPDATE lanes l
SET held_until = NULL, held_reason = NULL
WHERE l.id IN (
    SELECT o.id FROM lanes o
    WHERE o.integration_id = $1 AND o.held_reason IN ('rate_limit', 'concurrency_limit')
    ORDER BY o.id
    FOR NO KEY UPDATE
)
RETURNING l.family;

-- name: set_disabled
-- Disable or enable an integration; one that is disabled already keeps its instant.
UPDATE integrations i
SET disabled_at = CASE WHEN $3 THEN coalesce(i.disabled_at, $4) END, updated_at = $4
WHERE i.account_id = $1 AND i.id = $2;

-- name: remove_integration
-- Remove an integration: its row stays as history, without its secrets.
UPDATE integrations i
SET deleted_at = $3, updated_at = $3, secrets = '{}'
WHERE i.account_id = $1 AND i.id = $2;
