-- name: create_tasks
-- Make tasks about contacts.
INSERT INTO tasks (
    id, account_id, contact_id, assignee_id, title, description, due_at, priority, step_id, created_at
)
SELECT
    w.id, w.account_id, w.contact_id, w.assignee_id, w.title, w.description, w.due_at, w.priority,
    w.step_id, $10
FROM unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::timestamptz[],
        $8::text[], $9::uuid[]
    ) AS w (
        id, account_id, contact_id, assignee_id, title, description, due_at, priority, step_id
    );
