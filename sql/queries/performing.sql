-- name: events_for_waits
-- For each beginning wait, the first event that counts for it already. Runs as a statement of
-- its own after the contacts were locked, so that it sees what was committed meanwhile.
SELECT DISTINCT ON (w.ordinality) w.ordinality, v.id, v.event_type, v.payload, v.occurred_at,
    v.action_id
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::uuid[], $5::uuid[]) WITH ORDINALITY
    AS w (contact_id, event_type, since, action_id, execution_id, ordinality)
JOIN domain_events v
    ON v.contact_id = w.contact_id
    AND v.event_type = w.event_type
    AND v.occurred_at >= w.since
    AND (w.action_id IS NULL OR v.action_id = w.action_id)
    AND (w.action_id IS NULL OR v.execution_id IS NULL OR v.execution_id = w.execution_id)
ORDER BY w.ordinality, v.occurred_at, v.id;
