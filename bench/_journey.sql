-- name: begin_without_steps
-- Executions alone, for contestants that make each step's row when they perform it.
INSERT INTO workflow_executions (id, account_id, workflow_id, version_id, contact_id, started_at)
SELECT w.id, $1, $2, $3, w.contact_id, now()
FROM unnest($4::uuid[], $5::uuid[]) AS w (id, contact_id);

-- name: tally
-- What there is after contacts ($2) have each gone through the five actions of version $1 once.
WITH runs AS MATERIALIZED (
    SELECT e.id, e.status, e.contact_id FROM workflow_executions e WHERE e.version_id = $1
),
steps AS MATERIALIZED (
    SELECT s.status, s.action_id, s.workflow_execution_id
    FROM runs r
    JOIN workflow_action_executions s ON s.workflow_execution_id = r.id
),
people AS MATERIALIZED (
    SELECT c.id, c.first_name, c.last_name, c.owner_id FROM contacts c WHERE c.id = ANY ($2::uuid[])
),
tagged AS (
    SELECT t.name FROM contact_tags ct JOIN tags t ON t.id = ct.tag_id JOIN people p ON p.id = ct.contact_id
)
SELECT
    (SELECT count(*) FROM runs WHERE status = 'completed') AS executions,
    (SELECT count(*) FROM runs WHERE status <> 'completed') AS unfinished_executions,
    (SELECT count(*) FROM steps WHERE status = 'completed') AS steps,
    (SELECT count(DISTINCT (workflow_execution_id, action_id)) FROM steps WHERE status = 'completed')
        AS distinct_steps,
    (SELECT count(*) FROM steps WHERE status <> 'completed') AS unfinished_steps,
    (SELECT count(*) FROM workflow_action_attempts a WHERE a.version_id = $1 AND a.outcome = 'completed')
        AS attempts,
    (SELECT count(*) FROM people WHERE last_name ~ '^Last[0-9]+ II$') AS renamed_contacts,
    (SELECT count(*) FROM contact_field_changes f JOIN people p ON p.id = f.contact_id
     WHERE f.field = 'last_name') AS field_changes,
    (SELECT count(*) FROM tagged WHERE name = 'customer') AS added_tags,
    (SELECT count(*) FROM tagged WHERE name = 'lead') AS tags_left,
    (SELECT count(*) FROM notes n JOIN people p ON p.id = n.contact_id
     WHERE n.content = 'Welcome, ' || p.first_name || '!') AS notes,
    (SELECT count(DISTINCT n.contact_id) FROM notes n JOIN people p ON p.id = n.contact_id)
        AS contacts_with_note,
    (SELECT count(*) FROM tasks t JOIN people p ON p.id = t.contact_id
     WHERE t.title = 'Call ' || p.first_name || ' ' || p.last_name AND t.assignee_id = p.owner_id)
        AS tasks,
    (SELECT count(DISTINCT t.contact_id) FROM tasks t JOIN people p ON p.id = t.contact_id)
        AS contacts_with_task,
    (SELECT count(*) FROM domain_events v JOIN runs r ON r.id = v.execution_id) AS events,
    (SELECT count(DISTINCT (v.execution_id, v.event_type))
     FROM domain_events v JOIN runs r ON r.id = v.execution_id) AS distinct_events;
