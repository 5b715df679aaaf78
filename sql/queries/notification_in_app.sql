-- name: deliver
-- Write a notification of a user once per effect; gives nothing if the account has no such user.
INSERT INTO notifications AS n
    (account_id, user_id, effect_id, contact_id, title, message, created_at)
SELECT u.account_id, u.id, $3, $4, $5, $6, current_instant()
FROM users u
WHERE u.account_id = $1 AND u.id = $2
-- DO UPDATE and not DO NOTHING: an attempt that finds it delivered has to give it as well.
ON CONFLICT (effect_id) DO UPDATE SET effect_id = n.effect_id
RETURNING n.id;
