-- name: addresses
-- The addresses of a contact: those it has and those it was written to at.
SELECT 'email' AS channel, c.email_normalized AS address
FROM contacts c WHERE c.account_id = $1 AND c.id = $2 AND c.email_normalized IS NOT NULL
UNION
SELECT x.channel, c.phone_normalized
FROM contacts c, unnest(ARRAY['sms', 'voice']) AS x (channel)
WHERE c.account_id = $1 AND c.id = $2 AND c.phone_normalized IS NOT NULL
UNION
SELECT 'messenger', m.address
FROM messenger_people m WHERE m.account_id = $1 AND m.contact_id = $2
UNION
SELECT f.channel, f.address
FROM effects f
WHERE f.account_id = $1 AND f.contact_id = $2 AND f.channel IS NOT NULL AND f.address IS NOT NULL
ORDER BY 1, 2;

-- name: lock_contact
-- Lock a contact: whoever acts on it comes before or sees it erased.
SELECT c.erased_at, c.email_normalized, c.phone_normalized
FROM contacts c
WHERE c.account_id = $1 AND c.id = $2
FOR UPDATE;

-- name: live_executions
-- The runs of a contact that have not ended.
SELECT e.id FROM workflow_executions e
WHERE e.account_id = $1 AND e.contact_id = $2 AND e.status IN ('running', 'paused')
ORDER BY e.id;

-- name: drop_effects
-- Drop what is addressed to a contact and belongs to no run.
UPDATE effects f
SET status = 'cancelled', error_code = 'contact_erased', completed_at = $3, worker_id = NULL
WHERE f.id IN (
    SELECT o.id FROM effects o
    WHERE o.account_id = $1 AND o.contact_id = $2 AND o.status IN ('pending', 'scheduled', 'claimed')
    ORDER BY o.id
    FOR NO KEY UPDATE
) AND f.status IN ('pending', 'scheduled', 'claimed');

-- name: keep_hashes
-- Keep opt-outs of addresses by their salted hashes alone; the wider of two stands.
INSERT INTO erased_addresses (account_id, channel, address_hash, opted_out_at, reason, scope)
SELECT a.account_id, a.channel, address_hash(t.address_salt, a.channel, a.address),
    a.opted_out_at, coalesce(a.reason, 'opted_out'), a.scope
FROM channel_addresses a
JOIN accounts t ON t.id = a.account_id
JOIN unnest($2::text[], $3::text[]) AS w (channel, address)
    ON w.channel = a.channel AND w.address = a.address
WHERE a.account_id = $1 AND a.opted_out_at IS NOT NULL
ON CONFLICT (account_id, channel, address_hash)
    DO UPDATE SET scope = CASE WHEN excluded.scope = 'all' THEN 'all' ELSE erased_addresses.scope END;

-- name: forget_addresses
-- Forget the addresses themselves.
DELETE FROM channel_addresses a
USING unnest($2::text[], $3::text[]) AS w (channel, address)
WHERE a.account_id = $1 AND a.channel = w.channel AND a.address = w.address;

-- name: scrub_effects
-- Take out of effects what is personal; `erased` keeps what is still on the wire from writing its
-- answer down.
UPDATE effects f
SET request = '{"erased": true}', result = NULL, address = NULL, error_message = NULL,
    idempotency_key = f.id::text,
    decision = (
        SELECT jsonb_object_agg(d.key, d.value)
        FROM jsonb_each(f.decision) d
        WHERE d.key IN ('verdict', 'reason', 'at', 'until', 'channel', 'purpose')
    )
WHERE f.account_id = $1 AND f.contact_id = $2;

-- name: scrub_effect_attempts
-- The same of every try.
UPDATE effect_attempts t
SET result = NULL, error_message = NULL
FROM effects f
WHERE f.account_id = $1 AND f.contact_id = $2 AND t.effect_id = f.id;

-- name: scrub_effect_reports
-- What providers reported of them.
UPDATE effect_reports t
SET detail = '{}'
FROM effects f
WHERE f.account_id = $1 AND f.contact_id = $2 AND t.effect_id = f.id;

-- name: scrub_executions
-- What runs were given on their way; an entry key is whatever a client made it of.
UPDATE workflow_executions e
SET context = '{}', entry_key = e.id::text
WHERE e.account_id = $1 AND e.contact_id = $2;

-- name: scrub_steps
-- What steps kept, gave and said.
UPDATE workflow_action_executions s
SET execution_data = '{}', result_data = '{}', error_message = NULL
WHERE s.account_id = $1 AND s.contact_id = $2;

-- name: scrub_attempts
-- What their tries said.
UPDATE workflow_action_attempts t
SET error_message = NULL
FROM workflow_action_executions s
WHERE s.account_id = $1 AND s.contact_id = $2 AND t.step_id = s.id AND t.error_message IS NOT NULL;

-- name: scrub_audit_log
-- What users changed in the contact, its tasks, notes and opportunities.
UPDATE audit_log l
SET before = NULL, after = NULL
WHERE l.account_id = $1 AND (
    l.entity_type = 'contact' AND l.entity_id = $2
    OR l.entity_id IN (
        SELECT t.id FROM tasks t WHERE t.account_id = $1 AND t.contact_id = $2
        UNION ALL
        SELECT n.id FROM notes n WHERE n.account_id = $1 AND n.contact_id = $2
        UNION ALL
        SELECT o.id FROM opportunities o WHERE o.account_id = $1 AND o.contact_id = $2
    )
);

-- name: scrub_field_changes
-- That a field was changed stays, from what to what does not.
UPDATE contact_field_changes x SET old_value = NULL, new_value = NULL
WHERE x.account_id = $1 AND x.contact_id = $2;

-- name: scrub_notes
-- What was noted.
UPDATE notes n SET content = '', metadata = '{}' WHERE n.account_id = $1 AND n.contact_id = $2;

-- name: scrub_tasks
-- What was to be done.
UPDATE tasks t SET title = '', description = NULL WHERE t.account_id = $1 AND t.contact_id = $2;

-- name: scrub_opportunities
-- What opportunities were called.
UPDATE opportunities o SET name = '' WHERE o.account_id = $1 AND o.contact_id = $2;

-- name: drop_kept_answers
-- Drop the kept answers of requests that show a contact: the requests stay known as carried out.
UPDATE idempotency_keys k SET status = NULL, headers = NULL, body = NULL
WHERE k.account_id = $1 AND position(convert_to($2::uuid::text, 'UTF8') IN k.body) > 0;

-- name: scrub_notifications
-- What users were told.
UPDATE notifications n SET title = '', message = ''
WHERE n.account_id = $1 AND (
    n.contact_id = $2
    OR n.effect_id IN (SELECT f.id FROM effects f WHERE f.account_id = $1 AND f.contact_id = $2)
);

-- name: scrub_events
-- What events told.
UPDATE domain_events v SET payload = '{}', dedupe_key = NULL
WHERE v.account_id = $1 AND v.contact_id = $2;

-- name: scrub_enrollments
-- Why it left campaigns.
UPDATE campaign_enrollments n SET removal_reason = NULL WHERE n.account_id = $1 AND n.contact_id = $2;

-- name: end_course_grants
-- Access to courses ends; that it was given stays, why it ended does not.
UPDATE course_grants n SET
    status = CASE WHEN n.status = 'active' THEN 'revoked' ELSE n.status END,
    ended_at = COALESCE(n.ended_at, (SELECT current_instant())),
    reason = NULL
WHERE n.account_id = $1 AND n.contact_id = $2;

-- name: drop_lesson_progress
-- What it did in courses.
DELETE FROM lesson_progress n WHERE n.account_id = $1 AND n.contact_id = $2;

-- name: scrub_consents
-- That consent was given and withdrawn stays, with when; where and how does not.
UPDATE consents n SET source = '', wording = '' WHERE n.account_id = $1 AND n.contact_id = $2;

-- name: drop_people
-- Who it is on Messenger.
DELETE FROM messenger_people m WHERE m.account_id = $1 AND m.contact_id = $2;

-- name: drop_tags
-- What it was tagged with.
DELETE FROM contact_tags t WHERE t.account_id = $1 AND t.contact_id = $2;

-- name: drop_timers
-- What was still to happen to it. A timer that is just being fired finds the access ended.
DELETE FROM timers t
WHERE t.id IN (
    SELECT o.id FROM timers o
    WHERE o.account_id = $1 AND (
        o.payload ->> 'contact_id' = $2::uuid::text
        OR o.kind IN ('course.drip', 'course.expiry') AND o.dedupe_key IN (
            SELECT g.id::text FROM course_grants g WHERE g.account_id = $1 AND g.contact_id = $2
        )
    )
    FOR UPDATE SKIP LOCKED
);

-- name: drop_files
-- Lists that were uploaded and downloaded, by operations that have ended: nobody can say who
-- stands in them.
DELETE FROM operation_files p
USING operations o
WHERE p.account_id = $1 AND o.id = p.operation_id
  AND o.status IN ('completed', 'failed', 'cancelled') AND $2::uuid IS NOT NULL;

-- name: make_tombstone
-- Leave of the contact that there was one; history refers to it.
UPDATE contacts c
SET first_name = NULL, last_name = NULL, email = NULL, email_normalized = NULL, phone = NULL,
    phone_normalized = NULL, time_zone = NULL, owner_id = NULL, custom_fields = '{}',
    do_not_disturb = '{}', erased_at = $3, updated_at = $3
WHERE c.account_id = $1 AND c.id = $2;
