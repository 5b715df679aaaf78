-- name: record
-- Log one change: by whom and with what, in which request, of what, before and after.
SELECT record_change($1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb, $10::text::jsonb);

-- name: changes
-- What was changed, by whom, when, before and after.
SELECT l.id, l.at, l.user_id, l.token_id, l.jwt_id, l.request_id, l.action, l.entity_type,
    l.entity_id, l.before, l.after
FROM audit_log l
WHERE l.account_id = $1
-- filter entity_type: l.entity_type = :value
-- filter entity_id: l.entity_id = :value
-- filter user_id: l.user_id = :value
-- filter action: l.action = :value
-- filter from_instant: l.at >= :value
-- filter before_instant: l.at < :value
-- sort id: l.id bigint, l.id bigint

-- name: changes_of_workflow
-- What was changed of a workflow, its actions and branches, those deleted since too.
SELECT l.id, l.at, l.user_id, l.token_id, l.jwt_id, l.request_id, l.action, l.entity_type,
    l.entity_id, l.before, l.after
FROM audit_log l
WHERE l.account_id = $1
  AND (
    (l.entity_type = 'workflow' AND l.entity_id = $2::uuid)
    OR (l.entity_type = 'action' AND l.entity_id IN (
        SELECT a.id FROM workflow_actions a WHERE a.account_id = $1 AND a.workflow_id = $2))
    OR (l.entity_type = 'branch' AND coalesce(l.after, l.before) ->> 'workflow_id' = $2::text)
    OR (l.entity_type = 'branch' AND l.entity_id IN (
        SELECT b.id FROM workflow_branches b WHERE b.account_id = $1 AND b.workflow_id = $2))
  )
-- filter user_id: l.user_id = :value
-- filter action: l.action = :value
-- filter from_instant: l.at >= :value
-- filter before_instant: l.at < :value
-- sort id: l.id bigint, l.id bigint

-- name: workflow_ever
-- Whether there is or was such a workflow.
SELECT true FROM workflows w WHERE w.account_id = $1 AND w.id = $2;
