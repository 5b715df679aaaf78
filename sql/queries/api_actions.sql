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

-- name: drafts
-- Where the live actions of workflows stand, without a lock: true of these revisions only. One row
-- without an action (id is NULL) for a workflow that has none.
SELECT w.account_id AS of_account, w.id AS of_workflow, w.status,
    (SELECT current_instant()) AS changed_at, w.updated_at AS was_updated_at, w.revision,
    a.id, a.action_type, a.key, a.position, a.previous_action_id, a.next_action_id, a.branch_id
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (account_id, id)
JOIN workflows w
    ON w.account_id = wanted.account_id AND w.id = wanted.id AND w.deleted_at IS NULL
LEFT JOIN LATERAL (
    SELECT one.* FROM workflow_actions one
    WHERE one.account_id = w.account_id AND one.workflow_id = w.id AND one.deleted_at IS NULL
    ORDER BY one.branch_id NULLS FIRST, one.position
) a ON true;

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

-- name: add_actions
-- Write new actions, at most one for a workflow, link their neighbours to them and log it, in one
-- round trip. Nothing of one, and no row, if its draft is no longer at the revision at which it was
-- read, or its workflow was changed otherwise (If-Match may have asked for it), or is locked: a batch must not wait for whoever edits one of its drafts.
WITH new AS (
    SELECT n.*
    FROM unnest(
        $1::uuid[], $2::integer[], $3::uuid[], $4::uuid[], $5::text[], $6::jsonb[], $7::integer[],
        $8::uuid[], $9::uuid[], $10::uuid[], $11::boolean[], $12::text[], $13::uuid[], $14::text[],
        $15::float8[], $16::float8[], $17::timestamptz[], $18::uuid[], $19::uuid[], $20::uuid[],
        $21::text[], $22::text[], $23::text[], $24::text[], $25::uuid[], $26::text[], $27::text[],
        $35::timestamptz[]
    ) AS n (
        account_id, revision, id, workflow_id, action_type, action_config, position,
        previous_action_id, next_action_id, branch_id, is_enabled, on_failure, fallback_action_id,
        key, canvas_x, canvas_y, created_at, by_account, by_user, by_token, by_jwt, request_id,
        change, entity_type, entity_id, before, after, was_updated_at
    )
), open AS (
    SELECT w.id
    FROM new n
    JOIN workflows w ON w.account_id = n.account_id AND w.id = n.workflow_id
    WHERE w.revision = n.revision AND w.updated_at = n.was_updated_at
        AND w.deleted_at IS NULL AND w.status IN ('draft', 'paused')
    FOR NO KEY UPDATE OF w SKIP LOCKED
), held AS (
    UPDATE workflows w
    SET updated_at = n.created_at, revision = w.revision + 1
    FROM open o
    JOIN new n ON n.workflow_id = o.id
    WHERE w.account_id = n.account_id AND w.id = o.id AND w.revision = n.revision
        AND w.updated_at = n.was_updated_at
    RETURNING w.account_id, w.id
), linked AS (
    UPDATE workflow_actions a
    SET branch_id = l.branch_id, position = l.position, previous_action_id = l.previous_id,
        next_action_id = l.next_id, updated_at = n.created_at
    FROM unnest(
        $28::uuid[], $29::uuid[], $30::uuid[], $31::uuid[], $32::integer[], $33::uuid[], $34::uuid[]
    ) AS l (account_id, workflow_id, id, branch_id, position, previous_id, next_id)
    JOIN held h ON h.account_id = l.account_id AND h.id = l.workflow_id
    JOIN new n ON n.workflow_id = h.id
    WHERE a.account_id = l.account_id AND a.id = l.id
), logged AS (
    INSERT INTO audit_log
        (account_id, user_id, token_id, jwt_id, request_id, action, entity_type, entity_id,
         before, after, at)
    SELECT n.by_account, n.by_user, n.by_token, n.by_jwt, n.request_id, n.change, n.entity_type,
        n.entity_id, n.before::jsonb, n.after::jsonb, (SELECT current_instant())
    FROM held h
    JOIN new n ON n.workflow_id = h.id
)
INSERT INTO workflow_actions
    (id, account_id, workflow_id, action_type, action_config, position, previous_action_id,
     next_action_id, branch_id, is_enabled, on_failure, fallback_action_id, key,
     canvas_x, canvas_y, created_at, updated_at, created_by)
SELECT n.id, n.account_id, n.workflow_id, n.action_type, n.action_config, n.position,
    n.previous_action_id, n.next_action_id, n.branch_id, n.is_enabled, n.on_failure,
    n.fallback_action_id, n.key, n.canvas_x, n.canvas_y, n.created_at, n.created_at, n.by_user
FROM held h
JOIN new n ON n.workflow_id = h.id
RETURNING id;

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
