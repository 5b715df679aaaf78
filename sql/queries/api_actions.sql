-- name: actions
-- The live actions of a workflow: the trunk, then branch by branch, each in order.
SELECT a.id, a.workflow_id, a.action_type, a.action_config, a.position, a.previous_action_id,
    a.next_action_id, a.branch_id, a.is_enabled, a.on_failure, a.fallback_action_id, a.key,
    a.canvas_x, a.canvas_y, a.created_at, a.updated_at
FROM workflow_actions a
WHERE a.account_id = $1 AND a.workflow_id = $2 AND a.deleted_at IS NULL
ORDER BY a.branch_id NULLS FIRST, a.position;

-- name: open_draft
-- Lock a workflow to change it, and give its live actions.
SELECT d.* FROM open_draft($1, $2) d;

-- name: draft
-- Where the live actions of a workflow stand, without a lock: true of this revision only.
SELECT w.status, current_instant() AS changed_at, w.updated_at AS was_updated_at, w.revision,
    a.id, a.action_type, a.key, a.position, a.previous_action_id, a.next_action_id, a.branch_id
FROM workflows w
LEFT JOIN workflow_actions a
    ON a.account_id = w.account_id AND a.workflow_id = w.id AND a.deleted_at IS NULL
WHERE w.account_id = $1 AND w.id = $2 AND w.deleted_at IS NULL
ORDER BY a.branch_id NULLS FIRST, a.position;

-- name: action
-- One live action.
SELECT a.id, a.workflow_id, a.action_type, a.action_config, a.position, a.previous_action_id,
    a.next_action_id, a.branch_id, a.is_enabled, a.on_failure, a.fallback_action_id, a.key,
    a.canvas_x, a.canvas_y, a.created_at, a.updated_at
FROM workflow_actions a
WHERE a.account_id = $1 AND a.workflow_id = $2 AND a.id = $3 AND a.deleted_at IS NULL;

-- name: add_action
-- Write a new action; its neighbours are linked to it by `link_actions`.
INSERT INTO workflow_actions
    (id, account_id, workflow_id, action_type, action_config, position, previous_action_id,
     next_action_id, branch_id, is_enabled, on_failure, fallback_action_id, key,
     canvas_x, canvas_y, created_at, updated_at, created_by)
VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16, $17)
RETURNING id, workflow_id, action_type, action_config, position, previous_action_id,
    next_action_id, branch_id, is_enabled, on_failure, fallback_action_id, key,
    canvas_x, canvas_y, created_at, updated_at;

-- name: add_action_in_place
-- Write a new action, link its neighbours to it and log it, in one round trip; nothing of it, and
-- no row, if the draft is no longer at the revision ($31) at which it was read.
WITH held AS (
    UPDATE workflows w
    SET updated_at = $16, revision = w.revision + 1
    WHERE w.account_id = $2 AND w.id = $3 AND w.revision = $31 AND w.deleted_at IS NULL
        AND w.status IN ('draft', 'paused')
    RETURNING w.id
), linked AS (
    UPDATE workflow_actions a
    SET branch_id = l.branch_id, position = l.position, previous_action_id = l.previous_id,
        next_action_id = l.next_id, updated_at = $16
    FROM held, unnest($18::uuid[], $19::uuid[], $20::integer[], $21::uuid[], $22::uuid[])
        AS l (id, branch_id, position, previous_id, next_id)
    WHERE a.account_id = $2 AND a.id = l.id
)
INSERT INTO workflow_actions
    (id, account_id, workflow_id, action_type, action_config, position, previous_action_id,
     next_action_id, branch_id, is_enabled, on_failure, fallback_action_id, key,
     canvas_x, canvas_y, created_at, updated_at, created_by)
SELECT $1, $2, h.id, $4, $5::jsonb, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16, $17
FROM held h
RETURNING record_change($2, $17, $23, $24, $25, $26, $27, $28, $29::text::jsonb, $30::text::jsonb);

-- name: link_actions
-- Give actions new places and links.
UPDATE workflow_actions a
SET branch_id = l.branch_id, position = l.position, previous_action_id = l.previous_id,
    next_action_id = l.next_id, updated_at = $7
FROM unnest($2::uuid[], $3::uuid[], $4::integer[], $5::uuid[], $6::uuid[])
    AS l (id, branch_id, position, previous_id, next_id)
WHERE a.account_id = $1 AND a.id = l.id;

-- name: change_action
-- Change what an action is; where it stands is changed by `link_actions`.
UPDATE workflow_actions a
SET action_config = $3::jsonb, is_enabled = $4, on_failure = $5, fallback_action_id = $6,
    key = $7, canvas_x = $8, canvas_y = $9, updated_at = $10
WHERE a.account_id = $1 AND a.id = $2;

-- name: delete_action
-- Delete softly: versions and steps go on referring to the row.
UPDATE workflow_actions a
SET deleted_at = $3, updated_at = $3, previous_action_id = NULL, next_action_id = NULL
WHERE a.account_id = $1 AND a.id = $2;

-- name: set_fallbacks
-- Set the fallbacks of actions, or take them away.
UPDATE workflow_actions a
SET fallback_action_id = f.fallback_id
FROM unnest($2::uuid[], $3::uuid[]) AS f (id, fallback_id)
WHERE a.account_id = $1 AND a.id = f.id AND a.fallback_action_id IS DISTINCT FROM f.fallback_id;
