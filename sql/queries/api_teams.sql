-- name: teams
-- The teams of an account; see api/lists.py.
SELECT t.id, t.name, t.created_at, t.updated_at,
    ARRAY (SELECT m.user_id FROM team_members m WHERE m.team_id = t.id ORDER BY m.user_id)
        AS member_ids
FROM teams t
WHERE t.account_id = $1
-- filter user_id: EXISTS (SELECT FROM team_members m WHERE m.team_id = t.id AND m.user_id = :value)
-- sort name: lower(t.name) text, t.id uuid
-- sort created_at: t.created_at timestamptz, t.id uuid
;

-- name: team
-- One team with its members.
SELECT t.id, t.name, t.created_at, t.updated_at,
    ARRAY (SELECT m.user_id FROM team_members m WHERE m.team_id = t.id ORDER BY m.user_id)
        AS member_ids
FROM teams t
WHERE t.account_id = $1 AND t.id = $2;

-- name: add_team
-- Make a team with members.
WITH made AS (
    INSERT INTO teams (account_id, id, name, created_at, updated_at) VALUES ($1, $2, $4, $3, $3)
)
INSERT INTO team_members (account_id, team_id, user_id)
SELECT DISTINCT $1::uuid, $2::uuid, m.user_id FROM unnest($5::uuid[]) AS m (user_id);

-- name: change_team
-- Write a team's name and who its members are.
WITH renamed AS (
    UPDATE teams t SET name = $4, updated_at = $3 WHERE t.account_id = $1 AND t.id = $2
),
gone AS (
    DELETE FROM team_members m
    WHERE m.account_id = $1 AND m.team_id = $2 AND m.user_id <> ALL ($5::uuid[])
)
INSERT INTO team_members (account_id, team_id, user_id)
SELECT DISTINCT $1::uuid, $2::uuid, m.user_id FROM unnest($5::uuid[]) AS m (user_id)
ON CONFLICT (team_id, user_id) DO NOTHING;

-- name: delete_team
-- Delete a team; its members stay users.
DELETE FROM teams t WHERE t.account_id = $1 AND t.id = $2;
