-- name: find_users
-- Those of the given (account, user) pairs that exist.
SELECT u.account_id, u.id, u.name, u.email
FROM unnest($1::uuid[], $2::uuid[]) AS w (account_id, id)
JOIN users u ON u.account_id = w.account_id AND u.id = w.id;
