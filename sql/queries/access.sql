-- name: caller_of_token
-- Who a token speaks for; nothing if it is unknown, expired or revoked, or its user deactivated.
SELECT t.id AS token_id, t.account_id, t.user_id, u.role
FROM api_tokens t
JOIN users u ON u.account_id = t.account_id AND u.id = t.user_id
WHERE t.token_sha256 = $1
  AND t.revoked_at IS NULL
  AND u.deactivated_at IS NULL
  AND (t.expires_at IS NULL OR t.expires_at > (SELECT current_instant()));

-- name: lock_account_name
-- One at a time for whoever looks for an account by its name and makes it if there is none.
SELECT pg_advisory_xact_lock(hashtextextended('account ' || $1, 0));

-- name: find_account
-- The oldest account of this name.
SELECT a.id FROM accounts a WHERE a.name = $1 ORDER BY a.created_at, a.id LIMIT 1;

-- name: add_account
-- Make an account.
INSERT INTO accounts (name) VALUES ($1) RETURNING id;

-- name: service_user
-- Make a user that is no person, or give the one who has this address in the account; the role
-- becomes the one given.
INSERT INTO users (account_id, email, name, role, is_service)
VALUES ($1, $2, $3, $4, true)
ON CONFLICT (account_id, lower(email)) DO UPDATE SET role = excluded.role, is_service = true
RETURNING id;

-- name: add_token
-- Keep a token's hash.
INSERT INTO api_tokens (account_id, user_id, name, token_sha256, expires_at)
VALUES ($1, $2, $3, $4, $5)
RETURNING id;
