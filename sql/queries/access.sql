-- name: callers_of_tokens
-- Who tokens speak for; nothing for one unknown, expired or revoked, or whose user is deactivated.
SELECT t.token_sha256, t.id AS token_id, t.account_id, t.user_id, u.role, t.scopes, t.expires_at
FROM api_tokens t
JOIN users u ON u.account_id = t.account_id AND u.id = t.user_id
WHERE t.token_sha256 = ANY ($1::bytea[])
  AND t.revoked_at IS NULL
  AND u.deactivated_at IS NULL
  AND (t.expires_at IS NULL OR t.expires_at > (SELECT current_instant()));

-- name: caller_by_subject
-- Who a JWT speaks for: the user with this id, or else with this e-mail address, of the account.
SELECT u.account_id, u.id AS user_id, u.role
FROM users u
WHERE u.account_id = $1 AND NOT u.is_service AND u.deactivated_at IS NULL
  AND (u.id = $2::uuid OR ($2::uuid IS NULL AND lower(u.email) = lower($3::text)));

-- name: note_use
-- Write down that tokens were used, unless that is known to the minute already.
UPDATE api_tokens t
SET last_used_at = date_trunc('minute', c.now)
FROM (SELECT current_instant() AS now) c
WHERE t.id = ANY ($1::uuid[])
  AND (t.last_used_at IS NULL OR t.last_used_at < date_trunc('minute', c.now));

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

-- name: find_user
-- The user with this e-mail address.
SELECT u.id, u.role
FROM users u
WHERE u.account_id = $1 AND lower(u.email) = lower($2) AND u.deactivated_at IS NULL;

-- name: add_token
-- Keep a token's hash.
INSERT INTO api_tokens
    (id, account_id, user_id, name, token_sha256, expires_at, scopes, created_by, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, (SELECT current_instant()))
RETURNING id, user_id, name, scopes, created_by, created_at, expires_at, last_used_at, revoked_at;

-- name: tokens
-- Tokens, of one user or of all.
SELECT t.id, t.user_id, t.name, t.scopes, t.created_by, t.created_at, t.expires_at,
    t.last_used_at, t.revoked_at
FROM api_tokens t
WHERE t.account_id = $1
-- filter user_id: t.user_id = :value
-- sort created_at: t.created_at timestamptz, t.id uuid

-- name: token
-- One token, if it is this user's, or whosever it is where no user is given.
SELECT t.id, t.user_id, t.name, t.scopes, t.created_by, t.created_at, t.expires_at,
    t.last_used_at, t.revoked_at
FROM api_tokens t
WHERE t.account_id = $1 AND t.id = $2 AND ($3::uuid IS NULL OR t.user_id = $3);

-- name: revoke_token
-- End a token; nothing if it was revoked before.
UPDATE api_tokens t
SET revoked_at = (SELECT current_instant())
WHERE t.account_id = $1 AND t.id = $2 AND t.revoked_at IS NULL
RETURNING t.id, t.user_id, t.name, t.scopes, t.created_by, t.created_at, t.expires_at,
    t.last_used_at, t.revoked_at;

-- name: user_of_account
-- A user, for giving it a token; its role is kept from changing meanwhile.
SELECT u.id, u.role
FROM users u
WHERE u.account_id = $1 AND u.id = $2 AND u.deactivated_at IS NULL
FOR SHARE;

-- name: me
-- Whom a caller speaks for.
SELECT u.id, u.email, u.name, u.role, u.is_service, a.id AS account_id, a.name AS account_name,
    a.time_zone, a.currency, a.country, a.is_test
FROM users u
JOIN accounts a ON a.id = u.account_id
WHERE u.account_id = $1 AND u.id = $2;

-- name: tokens_of_account
-- All tokens of an account with their users, newest first, for the command line.
SELECT t.id, t.name, t.scopes, t.expires_at, t.revoked_at, t.last_used_at, u.email, u.role
FROM api_tokens t
JOIN users u ON u.account_id = t.account_id AND u.id = t.user_id
WHERE t.account_id = $1
ORDER BY t.created_at DESC, t.id DESC;

-- name: account_of_token
-- Whose token this is, for the command line, which belongs to no account.
SELECT t.account_id FROM api_tokens t WHERE t.id = $1;
