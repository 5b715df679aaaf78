-- name: find_hosts
-- The integrations of (account, host) pairs.
SELECT i.account_id, i.name, i.id
FROM integrations i
JOIN unnest($1::uuid[], $2::text[]) AS w (account_id, name)
    ON i.account_id = w.account_id AND i.name = w.name
WHERE i.kind = 'webhook_host';

-- name: make_hosts
-- Make integrations of hosts that are new, in an order that everybody keeps to. An account that
-- has $3 hosts gets no more: merge fields could otherwise make one for each contact.
INSERT INTO integrations (account_id, kind, name, max_concurrent)
SELECT w.account_id, 'webhook_host', w.name, $4
FROM (
    SELECT DISTINCT n.account_id, n.name FROM unnest($1::uuid[], $2::text[]) AS n (account_id, name)
) w
WHERE (
    SELECT count(*) FROM integrations i WHERE i.account_id = w.account_id AND i.kind = 'webhook_host'
) < $3
ORDER BY w.account_id, w.name
ON CONFLICT (account_id, name) WHERE kind = 'webhook_host' DO NOTHING;

-- name: signing_secrets
-- The secrets that sign an account's webhooks now, the current one first.
SELECT s.id, s.sealed, s.created_at, s.retires_at
FROM webhook_secrets s
WHERE s.account_id = $1 AND (s.retires_at IS NULL OR s.retires_at > (SELECT current_instant()))
ORDER BY s.retires_at NULLS FIRST, s.created_at DESC;

-- name: add_first_secret
-- Keep the first secret of an account, unless somebody else has just done so.
INSERT INTO webhook_secrets (id, account_id, sealed, created_at)
VALUES ($1, $2, $3, (SELECT current_instant()))
ON CONFLICT (account_id) WHERE retires_at IS NULL DO NOTHING;

-- name: retire_secret
-- Let the current secret sign until an instant from now on, beside the one that follows it.
UPDATE webhook_secrets s
SET retires_at = (SELECT current_instant()) + $2::interval
WHERE s.account_id = $1 AND s.retires_at IS NULL;

