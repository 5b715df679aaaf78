-- name: add_workflow
-- Make a draft.
INSERT INTO workflows (id, account_id, name, trigger, created_by, created_at, updated_at)
SELECT $1, $2, $3, $4::jsonb, $5, c.now, c.now
FROM (SELECT current_instant() AS now) c
RETURNING id, name, status, trigger, active_version_id, created_at, updated_at;

-- name: workflow
-- One workflow.
SELECT w.id, w.name, w.status, w.trigger, w.active_version_id, w.created_at, w.updated_at
FROM workflows w
WHERE w.account_id = $1 AND w.id = $2 AND w.deleted_at IS NULL;

-- name: workflows
-- The workflows of an account; see api/lists.py.
SELECT w.id, w.name, w.status, w.trigger, w.active_version_id, w.created_at, w.updated_at
FROM workflows w
WHERE w.account_id = $1 AND w.deleted_at IS NULL
-- filter status: w.status = :value
-- filter event_type: w.trigger->>'event_type' = :value
-- filter search: lower(w.name) LIKE lower(:value)
-- sort created_at: w.created_at timestamptz, w.id uuid
-- sort name: lower(w.name) text, w.id uuid
;

-- name: lock_workflow
-- Lock a workflow against other changes of its definition; enrolments go on beside it.
SELECT w.id, w.name, w.status, w.trigger, w.active_version_id, w.created_at, w.updated_at
FROM workflows w
WHERE w.account_id = $1 AND w.id = $2 AND w.deleted_at IS NULL
FOR NO KEY UPDATE;

-- name: lock_workflow_to_edit
-- The same, saying that the definition changes now.
WITH was AS (
    SELECT w.id, w.updated_at
    FROM workflows w
    WHERE w.account_id = $1 AND w.id = $2 AND w.deleted_at IS NULL
    FOR NO KEY UPDATE
)
UPDATE workflows w
SET updated_at = (SELECT current_instant()), revision = w.revision + 1
FROM was
WHERE w.id = was.id
RETURNING w.status, w.updated_at AS now, was.updated_at AS was_updated_at;

-- name: archive_workflow
-- End a workflow's listening and enrolling; what runs is left alone.
WITH silenced AS (
    DELETE FROM workflow_triggers t WHERE t.account_id = $1 AND t.workflow_id = $2
)
UPDATE workflows w
SET status = 'archived', updated_at = (SELECT current_instant())
WHERE w.account_id = $1 AND w.id = $2
RETURNING id, name, status, trigger, active_version_id, created_at, updated_at;

-- name: add_branch
-- Make a branch.
INSERT INTO workflow_branches (id, account_id, workflow_id, name, created_at)
VALUES ($1, $2, $3, $4, $5)
RETURNING id, workflow_id, name, created_at;

-- name: branches
-- The branches of a workflow, oldest first.
SELECT b.id, b.workflow_id, b.name, b.created_at
FROM workflow_branches b
WHERE b.account_id = $1 AND b.workflow_id = $2 AND b.deleted_at IS NULL
ORDER BY b.created_at, b.id;

-- name: has_branch
-- Whether a branch is of a workflow.
SELECT EXISTS (
    SELECT FROM workflow_branches b
    WHERE b.account_id = $1 AND b.workflow_id = $2 AND b.id = $3 AND b.deleted_at IS NULL
);

-- name: change_workflow
-- Rename a workflow, or change what starts it.
UPDATE workflows w
SET name = $3, trigger = $4::jsonb, updated_at = (SELECT current_instant())
WHERE w.account_id = $1 AND w.id = $2;

-- name: live_executions
-- The executions of a workflow that have not ended, at most $3.
SELECT e.id
FROM workflow_executions e
WHERE e.account_id = $1 AND e.workflow_id = $2 AND e.status IN ('running', 'paused')
ORDER BY e.contact_id
LIMIT $3;

-- name: campaigns_of_workflow
-- The campaigns that enrol in a workflow.
SELECT c.id, c.name
FROM campaigns c
WHERE c.account_id = $1 AND c.workflow_id = $2 AND c.deleted_at IS NULL
ORDER BY c.name;

-- name: delete_workflow
-- Delete softly, and listen no more: executions and versions go on referring to the row.
WITH silenced AS (
    DELETE FROM workflow_triggers t WHERE t.account_id = $1 AND t.workflow_id = $2
)
UPDATE workflows w
SET status = 'archived', deleted_at = (SELECT current_instant()), updated_at = (SELECT current_instant())
WHERE w.account_id = $1 AND w.id = $2;

-- name: branch
-- One branch of a workflow.
SELECT b.id, b.workflow_id, b.name, b.created_at
FROM workflow_branches b
WHERE b.account_id = $1 AND b.workflow_id = $2 AND b.id = $3 AND b.deleted_at IS NULL;

-- name: rename_branch
-- Rename a branch.
UPDATE workflow_branches b SET name = $4
WHERE b.account_id = $1 AND b.workflow_id = $2 AND b.id = $3
RETURNING b.id, b.workflow_id, b.name, b.created_at;

-- name: delete_branch
-- Delete a branch softly.
UPDATE workflow_branches b SET deleted_at = $4
WHERE b.account_id = $1 AND b.workflow_id = $2 AND b.id = $3;

-- name: workflow_versions
-- The versions of a workflow, the newest first; see api/lists.py.
SELECT v.id, v.number, v.activated_by, v.activated_at, w.active_version_id = v.id AS is_in_force,
    (SELECT count(*) FROM workflow_version_actions a WHERE a.version_id = v.id) AS action_count,
    (
        SELECT count(*) FROM workflow_executions e
        WHERE e.workflow_id = v.workflow_id AND e.version_id = v.id AND e.status IN ('running', 'paused')
    ) AS live_executions
FROM workflow_versions v
JOIN workflows w ON w.id = v.workflow_id
WHERE v.account_id = $1 AND v.workflow_id = $2
-- sort number: v.number integer, v.id uuid
;

-- name: workflow_version
-- One version of a workflow by its number.
SELECT v.id, v.number, v.activated_by, v.activated_at, w.active_version_id = v.id AS is_in_force
FROM workflow_versions v
JOIN workflows w ON w.id = v.workflow_id AND w.deleted_at IS NULL
WHERE v.account_id = $1 AND v.workflow_id = $2 AND v.number = $3;

-- name: version_rows
-- The actions of a version, as they stood.
SELECT a.action_id AS id, a.action_type, a.action_config, a.key, a.position, a.branch_id,
    a.next_action_id, a.is_enabled, a.on_failure, a.fallback_action_id
FROM workflow_version_actions a
WHERE a.account_id = $1 AND a.version_id = $2
ORDER BY a.branch_id NULLS FIRST, a.position;

-- name: standing
-- Where the live executions of a workflow stand: how many by version, action and status.
SELECT v.number AS version, s.action_id, a.action_type, a.key AS action_key, s.status,
    count(*) AS executions
FROM workflow_executions e
JOIN workflow_versions v ON v.id = e.version_id
JOIN workflow_action_executions s ON s.workflow_execution_id = e.id
    AND s.status IN ('pending', 'scheduled', 'waiting', 'running')
LEFT JOIN workflow_version_actions a ON a.version_id = e.version_id AND a.action_id = s.action_id
WHERE e.account_id = $1 AND e.workflow_id = $2 AND e.status IN ('running', 'paused')
GROUP BY v.number, s.action_id, a.action_type, a.key, a.position, s.status
ORDER BY v.number, a.position, s.status;

-- name: listeners
-- The active workflows of an account with what starts them.
SELECT w.id, w.name, t.event_type, coalesce(t.conditions, '[]') AS conditions
FROM workflows w
LEFT JOIN workflow_triggers t ON t.workflow_id = w.id
WHERE w.account_id = $1 AND w.status = 'active' AND w.deleted_at IS NULL AND w.id <> $2;

-- name: performed_by_listeners
-- What those workflows do in the versions in force.
SELECT w.id AS workflow_id, a.action_type, a.action_config, a.branch_id
FROM workflows w
JOIN workflow_version_actions a ON a.version_id = w.active_version_id
WHERE w.account_id = $1 AND w.status = 'active' AND w.deleted_at IS NULL AND w.id <> $2 AND a.is_enabled;

-- name: workflows_of_campaigns
-- Which workflows these campaigns enrol in.
SELECT c.id, c.workflow_id
FROM campaigns c
WHERE c.account_id = $1 AND c.id = ANY ($2::uuid[]) AND c.deleted_at IS NULL;
