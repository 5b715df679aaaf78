-- name: recipients
-- The people whom each entry of a JSON array {place, account_id, user_ids, team_ids, roles} names,
-- each once, with how they want to be told. Nobody who is deactivated, and no service user.
SELECT w.place, u.id, u.email, u.phone, coalesce(p.muted, '{}') AS muted,
    p.quiet_from, p.quiet_until, p.time_zone
FROM jsonb_to_recordset($1::jsonb)
    AS w (place integer, account_id uuid, user_ids uuid[], team_ids uuid[], roles text[])
JOIN users u ON u.account_id = w.account_id AND NOT u.is_service AND u.deactivated_at IS NULL
    AND (
        u.id = ANY (w.user_ids) OR u.role = ANY (w.roles)
        OR u.id IN (
            SELECT m.user_id FROM team_members m
            WHERE m.account_id = w.account_id AND m.team_id = ANY (w.team_ids)
        )
    )
LEFT JOIN notification_preferences p ON p.account_id = u.account_id AND p.user_id = u.id
ORDER BY w.place, u.id;
