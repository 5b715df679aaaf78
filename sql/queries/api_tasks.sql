-- name: tasks
-- The tasks of an account; see api/lists.py. Those without a due date are due last.
SELECT t.id, t.contact_id, t.assignee_id, t.title, t.description, t.due_at, t.priority, t.status,
    t.step_id, t.created_at, t.completed_at, t.updated_at
FROM tasks t
WHERE t.account_id = $1
-- filter contact_id: t.contact_id = :value
-- filter assignee_id: t.assignee_id = :value
-- filter status: t.status = :value
-- filter priority: t.priority = :value
-- filter due_from: t.due_at >= :value
-- filter due_before: t.due_at < :value
-- sort due_at: coalesce(t.due_at, 'infinity'::timestamptz) timestamptz, t.id uuid
-- sort created_at: t.created_at timestamptz, t.id uuid
;

-- name: task
-- One task.
SELECT t.id, t.contact_id, t.assignee_id, t.title, t.description, t.due_at, t.priority, t.status,
    t.step_id, t.created_at, t.completed_at, t.updated_at
FROM tasks t
WHERE t.account_id = $1 AND t.id = $2;

-- name: add_task
-- Make a task.
INSERT INTO tasks
    (account_id, id, contact_id, assignee_id, title, description, due_at, priority, status,
     created_at, updated_at)
VALUES ($1, $2, $4, $5, $6, $7, $8, $9, $10, $3, $3);

-- name: change_task
-- Write a task's fields; `completed_at` is when it was done first.
UPDATE tasks t
SET contact_id = $4, assignee_id = $5, title = $6, description = $7, due_at = $8, priority = $9,
    status = $10::text,
    completed_at = CASE WHEN $10::text = 'done' THEN coalesce(t.completed_at, $3::timestamptz) END,
    updated_at = $3
WHERE t.account_id = $1 AND t.id = $2;

-- name: delete_task
-- Delete a task.
DELETE FROM tasks t WHERE t.account_id = $1 AND t.id = $2;
