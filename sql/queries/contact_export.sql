-- name: contacts
-- Everything that is held on a contact, one query for each table. The contact itself.
SELECT to_jsonb(t) AS row FROM contacts t WHERE t.account_id = $1 AND t.id = $2;

-- name: contact_tags
-- Its tags, by name.
SELECT to_jsonb(t) || jsonb_build_object('name', g.name) AS row
FROM contact_tags t JOIN tags g ON g.id = t.tag_id
WHERE t.account_id = $1 AND t.contact_id = $2 ORDER BY t.added_at;

-- name: contact_field_changes
-- What was changed in its fields.
SELECT to_jsonb(t) AS row FROM contact_field_changes t
WHERE t.account_id = $1 AND t.contact_id = $2 ORDER BY t.id;

-- name: opportunities
-- Its opportunities.
SELECT to_jsonb(t) AS row FROM opportunities t
WHERE t.account_id = $1 AND t.contact_id = $2 ORDER BY t.created_at;

-- name: opportunity_stage_history
-- The stages that those went through.
SELECT to_jsonb(t) AS row
FROM opportunity_stage_history t JOIN opportunities o ON o.id = t.opportunity_id
WHERE o.account_id = $1 AND o.contact_id = $2 ORDER BY t.id;

-- name: tasks
-- Tasks about it.
SELECT to_jsonb(t) AS row FROM tasks t
WHERE t.account_id = $1 AND t.contact_id = $2 ORDER BY t.created_at;

-- name: notes
-- Notes on it.
SELECT to_jsonb(t) AS row FROM notes t
WHERE t.account_id = $1 AND t.contact_id = $2 ORDER BY t.created_at;

-- name: notifications
-- What users were told about it in the app.
SELECT to_jsonb(t) AS row FROM notifications t
WHERE t.account_id = $1 AND t.contact_id = $2 ORDER BY t.created_at;

-- name: consents
-- What it consented to.
SELECT to_jsonb(t) AS row FROM consents t
WHERE t.account_id = $1 AND t.contact_id = $2 ORDER BY t.id;

-- name: channel_addresses
-- Opt-outs of its addresses.
SELECT to_jsonb(t) AS row
FROM channel_addresses t
JOIN contacts c ON c.account_id = t.account_id
WHERE c.account_id = $1 AND c.id = $2
  AND (t.channel = 'email' AND t.address = c.email_normalized
       OR t.channel IN ('sms', 'voice') AND t.address = c.phone_normalized
       OR (t.channel, t.address) IN (
           SELECT f.channel, f.address FROM effects f
           WHERE f.contact_id = c.id AND f.address IS NOT NULL
       )
       OR t.channel = 'messenger' AND t.address IN (
           SELECT m.address FROM messenger_people m
           WHERE m.account_id = c.account_id AND m.contact_id = c.id
       ))
ORDER BY t.channel, t.address;

-- name: messenger_people
-- Who it is on Messenger.
SELECT to_jsonb(t) AS row FROM messenger_people t
WHERE t.account_id = $1 AND t.contact_id = $2 ORDER BY t.page, t.psid;

-- name: workflow_executions
-- Its runs.
SELECT to_jsonb(t) AS row FROM workflow_executions t
WHERE t.account_id = $1 AND t.contact_id = $2 ORDER BY t.started_at;

-- name: workflow_action_executions
-- The steps of those.
SELECT to_jsonb(t) AS row FROM workflow_action_executions t
WHERE t.account_id = $1 AND t.contact_id = $2 ORDER BY t.workflow_execution_id, t.sequence;

-- name: workflow_action_attempts
-- Every try of those.
SELECT to_jsonb(t) AS row
FROM workflow_action_attempts t JOIN workflow_action_executions s ON s.id = t.step_id
WHERE s.account_id = $1 AND s.contact_id = $2 ORDER BY t.started_at;

-- name: effects
-- What went out to it or about it, with the decision records.
SELECT to_jsonb(t) AS row FROM effects t
WHERE t.account_id = $1 AND t.contact_id = $2 ORDER BY t.created_at;

-- name: effect_attempts
-- Every try of those.
SELECT to_jsonb(t) AS row
FROM effect_attempts t JOIN effects f ON f.id = t.effect_id
WHERE f.account_id = $1 AND f.contact_id = $2 ORDER BY t.started_at;

-- name: effect_reports
-- What providers reported of them.
SELECT to_jsonb(t) AS row
FROM effect_reports t JOIN effects f ON f.id = t.effect_id
WHERE f.account_id = $1 AND f.contact_id = $2 ORDER BY t.reported_at;

-- name: domain_events
-- What happened to it.
SELECT to_jsonb(t) AS row FROM domain_events t
WHERE t.account_id = $1 AND t.contact_id = $2 ORDER BY t.id;

-- name: campaign_enrollments
-- The campaigns that it was in.
SELECT to_jsonb(t) AS row FROM campaign_enrollments t
WHERE t.account_id = $1 AND t.contact_id = $2 ORDER BY t.enrolled_at;

-- name: course_grants
-- The courses that it was given access to.
SELECT to_jsonb(t) AS row FROM course_grants t
WHERE t.account_id = $1 AND t.contact_id = $2 ORDER BY t.granted_at, t.id;

-- name: lesson_progress
-- The lessons that were opened to it.
SELECT to_jsonb(t) AS row FROM lesson_progress t
WHERE t.account_id = $1 AND t.contact_id = $2 ORDER BY t.opened_at, t.lesson_id;

-- name: enrollment_refusals
-- What it was not enrolled in.
SELECT to_jsonb(t) AS row FROM enrollment_refusals t
WHERE t.account_id = $1 AND t.contact_id = $2 ORDER BY t.id;

-- name: timers
-- What is still to happen to it.
SELECT to_jsonb(t) AS row FROM timers t
WHERE t.account_id = $1 AND t.payload ->> 'contact_id' = $2::uuid::text ORDER BY t.due_at;

-- name: audit_log
-- What users did to it.
SELECT to_jsonb(t) AS row FROM audit_log t
WHERE t.account_id = $1 AND t.entity_type = 'contact' AND t.entity_id = $2 ORDER BY t.id;
