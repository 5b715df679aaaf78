-- name: update_contact
-- The action with its field change. Parameters of all five: account $1, contact $2, step $3,
-- tag $4 (of the tag actions).
WITH changed AS (
    UPDATE contacts c
    SET last_name = o.last_name || ' II', updated_at = now()
    FROM contacts o
    WHERE c.id = $2 AND o.id = c.id
    RETURNING c.id, o.last_name AS old_name, c.last_name AS new_name
)
INSERT INTO contact_field_changes
    (account_id, contact_id, field, old_value, new_value, step_id, changed_at)
SELECT $1::uuid, id, 'last_name', to_jsonb(old_name), to_jsonb(new_name), $3::uuid, now()
FROM changed
WHERE $4::uuid IS NULL;

-- name: add_tag
-- Give the contact the tag.
INSERT INTO contact_tags (account_id, contact_id, step_id, tag_id, added_at)
VALUES ($1::uuid, $2::uuid, $3::uuid, $4::uuid, now())
ON CONFLICT (contact_id, tag_id) DO NOTHING;

-- name: add_note
-- Write the note.
INSERT INTO notes (account_id, contact_id, step_id, note_type, content, metadata, created_at)
SELECT $1::uuid, c.id, $3::uuid, 'workflow', 'Welcome, ' || c.first_name || '!',
    jsonb_build_object('step_id', $3::uuid), now()
FROM contacts c
WHERE c.id = $2 AND $4::uuid IS NULL;

-- name: create_task
-- Make the task.
INSERT INTO tasks
    (account_id, contact_id, step_id, assignee_id, title, due_at, priority, created_at)
SELECT $1::uuid, c.id, $3::uuid, c.owner_id, 'Call ' || c.first_name || ' ' || c.last_name,
    now() + '2 days', 'high', now()
FROM contacts c
WHERE c.id = $2 AND $4::uuid IS NULL;

-- name: remove_tag
-- Take the tag off.
DELETE FROM contact_tags ct
WHERE ct.account_id = $1::uuid AND ct.contact_id = $2::uuid AND ct.tag_id = $4::uuid
    AND $3::uuid IS NOT NULL;

-- name: log_step
-- The log row of the action, its attempt and its event.
WITH step AS (
    INSERT INTO workflow_action_executions
        (id, account_id, workflow_execution_id, action_id, contact_id, family, lane_id, sequence,
         ready_at, status, started_at, completed_at, attempt)
    VALUES ($1::uuid, $2::uuid, $3::uuid, $4::uuid, $5::uuid, 'crm', $6::bigint, $7::integer,
        now(), 'completed', now(), clock_timestamp(), 1)
),
attempt AS (
    INSERT INTO workflow_action_attempts
        (step_id, attempt, account_id, contact_id, action_id, version_id, started_at, finished_at,
         outcome)
    VALUES ($1::uuid, 1, $2::uuid, $5::uuid, $4::uuid, $8::uuid, now(), clock_timestamp(),
        'completed')
)
INSERT INTO domain_events
    (account_id, event_type, contact_id, payload, action_id, execution_id, event_depth,
     occurred_at, dispatched_at)
VALUES ($2::uuid, $9::text, $5::uuid, jsonb_build_object('step_id', $1::uuid), $4::uuid, $3::uuid,
    1, now(), now());

-- name: complete_execution
-- The end of the execution.
UPDATE workflow_executions SET status = 'completed', completed_at = clock_timestamp() WHERE id = $1;
