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
-- A page of workflows, newest first, optionally of one status. The first page begins after the
-- last key there can be, so that the condition always is a range of the index.
SELECT w.id, w.name, w.status, w.trigger, w.active_version_id, w.created_at, w.updated_at
FROM workflows w
WHERE w.account_id = $1
  AND w.deleted_at IS NULL
  AND ($2::text IS NULL OR w.status = $2)
  AND (w.created_at, w.id) < (
      coalesce($3::timestamptz, 'infinity'),
      coalesce($4::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  )
ORDER BY w.created_at DESC, w.id DESC
LIMIT $5;

-- name: lock_workflow
-- Lock a workflow against other changes of its definition; enrolments go on beside it.
SELECT w.id, w.name, w.status, w.trigger, w.active_version_id, w.created_at, w.updated_at
FROM workflows w
WHERE w.account_id = $1 AND w.id = $2 AND w.deleted_at IS NULL
FOR NO KEY UPDATE;

-- name: lock_workflow_to_edit
-- The same, saying that the definition changes now.
UPDATE workflows w
SET updated_at = (SELECT current_instant())
WHERE w.account_id = $1 AND w.id = $2 AND w.deleted_at IS NULL
RETURNING w.status, w.updated_at AS now;

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
WHERE b.account_id = $1 AND b.workflow_id = $2
ORDER BY b.created_at, b.id;

-- name: has_branch
-- Whether a branch is of a workflow.
SELECT EXISTS (
    SELECT FROM workflow_branches b
    WHERE b.account_id = $1 AND b.workflow_id = $2 AND b.id = $3
);
