-- name: notifications
-- The notifications of a user of the account; see api/lists.py.
SELECT n.id, n.title, n.message, n.contact_id, n.created_at, n.read_at
FROM notifications n
WHERE n.account_id = $1 AND n.user_id = $2
-- filter is_read: (n.read_at IS NOT NULL) = :value
-- filter contact_id: n.contact_id = :value
-- sort created_at: n.created_at timestamptz, n.id uuid
;

-- name: notification
-- One notification of a user.
SELECT n.id, n.title, n.message, n.contact_id, n.created_at, n.read_at
FROM notifications n
WHERE n.account_id = $1 AND n.user_id = $2 AND n.id = $3;

-- name: unread
-- How many a user has not read.
SELECT count(*) FROM notifications n
WHERE n.account_id = $1 AND n.user_id = $2 AND n.read_at IS NULL;

-- name: mark_read
-- Mark one as read; it keeps the instant at which it was first read.
UPDATE notifications n SET read_at = coalesce(n.read_at, (SELECT current_instant()))
WHERE n.account_id = $1 AND n.user_id = $2 AND n.id = $3
RETURNING n.id, n.title, n.message, n.contact_id, n.created_at, n.read_at;

-- name: mark_all_read
-- Mark as read what a user has not read, up to an instant or all of it; gives how many.
WITH marked AS (
    UPDATE notifications n SET read_at = (SELECT current_instant())
    WHERE n.account_id = $1 AND n.user_id = $2 AND n.read_at IS NULL
        AND ($3::timestamptz IS NULL OR n.created_at <= $3)
    RETURNING n.id
)
SELECT count(*) FROM marked;

-- name: named
-- Notifications of a user by their ids, oldest first.
SELECT n.id, n.title, n.message, n.contact_id, n.created_at, n.read_at
FROM notifications n
WHERE n.account_id = $1 AND n.user_id = $2 AND n.id = ANY ($3::uuid[])
ORDER BY n.created_at, n.id;

-- name: since
-- Notifications of a user behind an instant and id, oldest first, at most $5.
SELECT n.id, n.title, n.message, n.contact_id, n.created_at, n.read_at
FROM notifications n
WHERE n.account_id = $1 AND n.user_id = $2 AND (n.created_at, n.id) > ($3, $4)
ORDER BY n.created_at, n.id
LIMIT $5;

-- name: preferences
-- How a user wants to be told; a row of nulls for one who never said, none for nobody.
SELECT coalesce(p.muted, '{}') AS muted, p.quiet_from, p.quiet_until, p.time_zone, p.updated_at
FROM users u
LEFT JOIN notification_preferences p ON p.account_id = u.account_id AND p.user_id = u.id
WHERE u.account_id = $1 AND u.id = $2;

-- name: set_preferences
-- Write how a user wants to be told.
INSERT INTO notification_preferences
    (account_id, user_id, muted, quiet_from, quiet_until, time_zone, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, (SELECT current_instant()))
ON CONFLICT (account_id, user_id) DO UPDATE
SET muted = excluded.muted, quiet_from = excluded.quiet_from, quiet_until = excluded.quiet_until,
    time_zone = excluded.time_zone, updated_at = excluded.updated_at;
