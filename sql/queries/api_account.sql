-- name: account
-- The account itself.
SELECT a.id, a.name, a.time_zone, a.currency, a.country, a.postal_address, a.is_test, a.created_at, a.updated_at
FROM accounts a
WHERE a.id = $1 AND a.id = $2;

-- name: change_account
-- Write an account's fields.
UPDATE accounts a
SET name = $4, time_zone = $5, currency = $6, country = $7,
    postal_address = $8, updated_at = $3
WHERE a.id = $1 AND a.id = $2;
