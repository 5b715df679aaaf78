-- name: find_users
-- The users of (account, user) pairs, and whether they are available; service users are nobody.
SELECT u.account_id, u.id, u.is_available
FROM unnest($1::uuid[], $2::uuid[]) AS w (account_id, user_id)
JOIN users u ON u.account_id = w.account_id AND u.id = w.user_id AND NOT u.is_service;

-- name: lock_cursors
-- Lock the cursors of (account, team) pairs in one order for everybody, making those that are
-- missing; gives none for a team that the account does not have.
INSERT INTO assignment_cursors AS c (account_id, team_id)
SELECT w.account_id, w.team_id
FROM unnest($1::uuid[], $2::uuid[]) AS w (account_id, team_id)
LEFT JOIN teams t ON t.account_id = w.account_id AND t.id = w.team_id
WHERE w.team_id IS NULL OR t.id IS NOT NULL
ORDER BY w.account_id, w.team_id NULLS FIRST
-- DO UPDATE locks the row and gives its newest version; the values stay.
ON CONFLICT (account_id, team_id) DO UPDATE SET last_user_id = c.last_user_id
RETURNING c.account_id, c.team_id, c.last_user_id, c.last_least_busy_user_id;

-- name: find_available_members
-- The available users of each round, with their open tasks and opportunities where asked for.
-- Who may only look (viewers) and who is no person (service users) is given no contacts.
SELECT
    w.round,
    u.id,
    CASE WHEN w.with_load THEN
        (
            SELECT count(*) FROM tasks t
            WHERE t.account_id = u.account_id AND t.assignee_id = u.id AND t.status = 'open'
        ) + (
            SELECT count(*) FROM opportunities o
            WHERE o.account_id = u.account_id AND o.owner_id = u.id AND o.status = 'open'
        )
    ELSE 0 END AS load
FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::boolean[])
    AS w (round, account_id, team_id, with_load)
JOIN users u
    ON u.account_id = w.account_id
    AND u.is_available AND NOT u.is_service AND u.role <> 'viewer'
WHERE w.team_id IS NULL
    OR EXISTS (
        SELECT FROM team_members m
        WHERE m.account_id = w.account_id AND m.team_id = w.team_id AND m.user_id = u.id
    )
ORDER BY w.round, u.id;

-- name: move_cursors
-- Note who was given a contact last in each round.
UPDATE assignment_cursors c
SET last_user_id = w.last_user_id, last_least_busy_user_id = w.last_least_busy_user_id
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[])
    AS w (account_id, team_id, last_user_id, last_least_busy_user_id)
WHERE c.account_id = w.account_id AND c.team_id IS NOT DISTINCT FROM w.team_id;

-- name: give_owners
-- Give contacts their new owners.
UPDATE contacts c
SET owner_id = w.owner_id, updated_at = $3
FROM unnest($1::uuid[], $2::uuid[]) AS w (contact_id, owner_id)
WHERE c.id = w.contact_id;
