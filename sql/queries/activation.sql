-- name: lock_workflow
-- Lock a workflow's definition; enrolments go on beside it.
SELECT w.status, w.trigger, w.active_version_id
FROM workflows w
WHERE w.account_id = $1 AND w.id = $2 AND w.deleted_at IS NULL
FOR NO KEY UPDATE;

-- name: draft_actions
-- The live actions, each chain in order.
SELECT a.id, a.action_type, a.action_config, a.key, a.position, a.branch_id,
    coalesce(a.is_enabled, true) AS is_enabled, a.on_failure, a.fallback_action_id
FROM workflow_actions a
WHERE a.account_id = $1 AND a.workflow_id = $2 AND a.deleted_at IS NULL
ORDER BY a.branch_id NULLS FIRST, a.position;

-- name: branches
-- The branches of a workflow.
SELECT b.id, b.name
FROM workflow_branches b
WHERE b.account_id = $1 AND b.workflow_id = $2 AND b.deleted_at IS NULL
ORDER BY b.name, b.id;

-- name: version
-- The number of a version.
SELECT v.id, v.number FROM workflow_versions v WHERE v.account_id = $1 AND v.id = $2;

-- name: version_actions
-- What a version took from the draft, to compare the two.
SELECT a.action_id AS id, a.action_type, a.action_config, a.key, a.position, a.branch_id,
    a.is_enabled, a.on_failure, a.fallback_action_id
FROM workflow_version_actions a
WHERE a.account_id = $1 AND a.version_id = $2
ORDER BY a.branch_id NULLS FIRST, a.position;

-- name: add_version
-- Make the next version; numbers have no gaps, since the workflow is locked.
INSERT INTO workflow_versions (id, account_id, workflow_id, number, activated_by, activated_at)
SELECT $1, $2, $3, coalesce(max(v.number), 0) + 1, $4, $5
FROM workflow_versions v
WHERE v.workflow_id = $3
RETURNING id, number;

-- name: add_version_actions
-- Keep the draft's actions as they stand, each with the one that follows it in its chain.
INSERT INTO workflow_version_actions
    (version_id, action_id, account_id, action_type, action_config, key, position, branch_id,
     next_action_id, is_enabled, on_failure, fallback_action_id)
SELECT $3, a.id, a.account_id, a.action_type, a.action_config, a.key, a.position, a.branch_id,
    lead(a.id) OVER (PARTITION BY a.branch_id ORDER BY a.position),
    coalesce(a.is_enabled, true), a.on_failure, a.fallback_action_id
FROM workflow_actions a
WHERE a.account_id = $1 AND a.workflow_id = $2 AND a.deleted_at IS NULL;

-- name: add_version_branches
-- Keep the draft's branches as they are called.
INSERT INTO workflow_version_branches (version_id, branch_id, account_id, name)
SELECT $3, b.id, b.account_id, b.name
FROM workflow_branches b
WHERE b.account_id = $1 AND b.workflow_id = $2 AND b.deleted_at IS NULL;

-- name: version_branches
-- The branches of a version.
SELECT b.branch_id AS id, b.name
FROM workflow_version_branches b
WHERE b.account_id = $1 AND b.version_id = $2
ORDER BY b.name, b.branch_id;

-- name: set_active
-- Let a version in force.
UPDATE workflows w
SET status = 'active', active_version_id = $3, updated_at = $4
WHERE w.account_id = $1 AND w.id = $2;

-- name: set_paused
-- Let nobody in.
UPDATE workflows w
SET status = 'paused', updated_at = $3
WHERE w.account_id = $1 AND w.id = $2 AND w.status = 'active';

-- name: listen
-- Have the workflow enrol the contacts of such events from now on.
INSERT INTO workflow_triggers (workflow_id, account_id, event_type, conditions)
VALUES ($2, $1, $3, $4::jsonb)
ON CONFLICT (workflow_id) DO UPDATE
SET event_type = excluded.event_type, conditions = excluded.conditions;

-- name: stop_listening
-- Have the workflow enrol nobody by events.
DELETE FROM workflow_triggers t WHERE t.account_id = $1 AND t.workflow_id = $2;

-- name: pause_lanes
-- Hold all lanes of a workflow, however much stands in them; locked in the order of their ids.
UPDATE lanes l
SET is_paused = true
WHERE l.id IN (
    SELECT o.id
    FROM lanes o
    WHERE o.account_id = $1 AND o.workflow_id = $2 AND NOT o.is_paused
    ORDER BY o.id
    FOR NO KEY UPDATE
);

-- name: open_lanes
-- Open all lanes of a workflow; gives the families that may have ready work by it.
WITH opened AS (
    UPDATE lanes l
    SET is_paused = false
    WHERE l.id IN (
        SELECT o.id
        FROM lanes o
        WHERE o.account_id = $1 AND o.workflow_id = $2 AND o.is_paused
        ORDER BY o.id
        FOR NO KEY UPDATE
    )
    RETURNING l.family
)
SELECT DISTINCT family FROM opened;

-- name: pause_everything
-- Pause all workflows of all accounts, and hold all lanes, those of archived workflows too: nothing
-- that leaves the house by a workflow goes on before somebody says so.
WITH paused AS (
    UPDATE workflows w SET status = 'paused' WHERE w.status = 'active'
), unheard AS (
    DELETE FROM workflow_triggers
)
UPDATE lanes l SET is_paused = true WHERE l.workflow_id IS NOT NULL;

-- name: count_open_effects
-- How many effects have not come to their end.
SELECT count(*) FROM effects f WHERE f.completed_at IS NULL;
