-- name: put_to_sleep
-- Runs whose first step sleeps until an instant each, as wait_time left it.
WITH wanted AS (
    SELECT * FROM unnest($4::uuid[], $5::uuid[], $6::uuid[], $7::text[], $8::timestamptz[])
        AS w (execution_id, step_id, contact_id, entry_key, due_at)
),
runs AS (
    INSERT INTO workflow_executions
        (id, account_id, workflow_id, version_id, contact_id, entry_key, started_at)
    SELECT w.execution_id, $1, $2, $3, w.contact_id, w.entry_key, current_instant()
    FROM wanted w
),
steps AS (
    INSERT INTO workflow_action_executions
        (id, account_id, workflow_execution_id, action_id, contact_id, status, started_at,
         execution_data, scheduled_at, family, lane_id, phase, attempt, ready_at)
    SELECT w.step_id, $1, w.execution_id, $9, w.contact_id, 'scheduled', current_instant(),
        jsonb_build_object('until', w.due_at), w.due_at, 'timing', $10, 'resume', 1, current_instant()
    FROM wanted w
)
INSERT INTO workflow_action_attempts
    (step_id, attempt, account_id, contact_id, action_id, version_id, started_at, finished_at, outcome)
SELECT w.step_id, 1, $1, w.contact_id, $9, $3, current_instant(), current_instant(), 'slept'
FROM wanted w;

-- name: lags
-- How many seconds after its instant each wait was over.
SELECT extract(epoch FROM s.completed_at - w.due_at)::double precision AS lag
FROM unnest($1::uuid[], $2::timestamptz[]) AS w (id, due_at)
JOIN workflow_action_executions s ON s.id = w.id
WHERE s.status = 'completed';

-- name: tagged
-- How many contacts have a tag.
SELECT count(*) FROM contact_tags ct JOIN tags t ON t.id = ct.tag_id WHERE t.name = $1;
