-- name: write_down
-- Write down who was not enrolled by hand, and why; contacts that do not exist have no row.
INSERT INTO enrollment_refusals (account_id, workflow_id, contact_id, reason, refused_at)
SELECT $1, $2, r.contact_id, r.reason, $5
FROM unnest($3::uuid[], $4::text[]) AS r (contact_id, reason);

-- name: refusals
-- A page of refused enrolments of a workflow, newest first, optionally those of one contact.
SELECT r.id, r.contact_id, r.event_id, r.reason, r.refused_at
FROM enrollment_refusals r
WHERE r.account_id = $1 AND r.workflow_id = $2
  AND ($3::uuid IS NULL OR r.contact_id = $3)
  AND ($4::bigint IS NULL OR r.id < $4)
ORDER BY r.id DESC
LIMIT $5;
