-- name: users
-- The users of an account; see api/lists.py.
SELECT u.id, u.email, u.name, u.phone, u.role, u.is_available, u.is_service,
    u.deactivated_at IS NULL AS is_active, u.created_at, u.updated_at
FROM users u
WHERE u.account_id = $1
-- filter role: u.role = :value
-- filter is_available: u.is_available = :value
-- filter is_service: u.is_service = :value
-- filter is_active: (u.deactivated_at IS NULL) = :value
-- filter email: lower(u.email) = lower(:value)
-- sort email: lower(u.email) text, u.id uuid
-- sort name: lower(u.name) text, u.id uuid
-- sort created_at: u.created_at timestamptz, u.id uuid
;

-- name: user
-- One user.
SELECT u.id, u.email, u.name, u.phone, u.role, u.is_available, u.is_service,
    u.deactivated_at IS NULL AS is_active, u.created_at, u.updated_at
FROM users u
WHERE u.account_id = $1 AND u.id = $2;

-- name: add_user
-- Make a user.
INSERT INTO users
    (account_id, id, email, name, role, is_available, deactivated_at, phone, created_at, updated_at)
VALUES ($1, $2, $4, $5, $6, $7, CASE WHEN NOT $8 THEN $3::timestamptz END, $9, $3, $3);

-- name: change_user
-- Write a user's fields.
UPDATE users u
SET email = $4, name = $5, role = $6, is_available = $7, phone = $9,
    deactivated_at = CASE WHEN NOT $8 THEN coalesce(u.deactivated_at, $3::timestamptz) END,
    updated_at = $3
WHERE u.account_id = $1 AND u.id = $2;

-- name: delete_user
-- Delete a user to whom nothing refers.
DELETE FROM users u WHERE u.account_id = $1 AND u.id = $2;

-- name: lock_admins
-- Lock the account's active admins, in the order of their ids: of two who leave, one sees the
-- other gone.
SELECT u.id
FROM users u
WHERE u.account_id = $1 AND u.role = 'admin' AND u.deactivated_at IS NULL
ORDER BY u.id
FOR NO KEY UPDATE;
