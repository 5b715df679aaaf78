-- name: claim_steps
-- Lock ready steps of the lane.
SELECT s.id, s.workflow_execution_id, s.contact_id, s.sequence
FROM workflow_action_executions s
WHERE s.family = 'crm' AND s.lane_id = $1 AND s.status = 'pending' AND s.hold IS NULL
ORDER BY s.priority DESC, s.id
LIMIT $2
FOR NO KEY UPDATE SKIP LOCKED;

-- name: lock_contacts
-- Lock contacts in the order of their ids.
SELECT c.id, c.first_name, c.last_name, c.owner_id
FROM contacts c
WHERE c.id = ANY ($1::uuid[])
ORDER BY c.id
FOR NO KEY UPDATE;

-- name: rename_contacts
-- update_contact.
UPDATE contacts c
SET last_name = w.last_name, updated_at = $3
FROM unnest($1::uuid[], $2::text[]) AS w (id, last_name)
WHERE c.id = w.id;

-- name: add_tags
-- add_tag.
INSERT INTO contact_tags (account_id, contact_id, tag_id, step_id, added_at)
SELECT $1, w.contact_id, $2, w.step_id, $5
FROM unnest($3::uuid[], $4::uuid[]) AS w (contact_id, step_id)
ON CONFLICT (contact_id, tag_id) DO NOTHING;

-- name: remove_tags
-- remove_tag.
DELETE FROM contact_tags ct WHERE ct.contact_id = ANY ($1::uuid[]) AND ct.tag_id = $2;

-- name: complete_steps
-- Record claimed steps as completed.
UPDATE workflow_action_executions s
SET status = 'completed', started_at = $3, completed_at = $4, result_data = w.result,
    attempt = s.attempt + 1
FROM unnest($1::uuid[], $2::jsonb[]) AS w (id, result)
WHERE s.id = w.id;

-- name: complete_executions
-- End executions.
UPDATE workflow_executions e
SET status = 'completed', completed_at = $2
WHERE e.id = ANY ($1::uuid[]);
