-- name: deliver
-- Write a notification of a user once per effect, and tell whoever listens; gives nothing if the
-- account has no such user, and no id if the user wants to see none.
WITH reader AS (
    SELECT u.account_id, u.id, 'in_app' = ANY (coalesce(p.muted, '{}')) AS is_muted
    FROM users u
    LEFT JOIN notification_preferences p ON p.account_id = u.account_id AND p.user_id = u.id
    WHERE u.account_id = $1 AND u.id = $2 AND u.deactivated_at IS NULL
), written AS (
    INSERT INTO notifications AS n
        (account_id, user_id, effect_id, contact_id, title, message, created_at)
    SELECT r.account_id, r.id, $3, $4, $5, $6, current_instant()
    FROM reader r
    WHERE NOT r.is_muted
    -- DO UPDATE and not DO NOTHING: an attempt that finds it delivered has to give it as well.
    ON CONFLICT (effect_id) DO UPDATE SET effect_id = n.effect_id
    RETURNING n.id, n.user_id
)
SELECT w.id, pg_notify('notifications', w.user_id || ' ' || w.id)
FROM reader r
LEFT JOIN written w ON true;
