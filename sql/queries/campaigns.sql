-- name: lock_limited_campaigns
-- Of (account, campaign) pairs, lock the campaigns that have a limit, in the order of their ids:
-- whoever counts their enrolments sees all that others have made.
SELECT c.id
FROM campaigns c
WHERE (c.account_id, c.id) IN (
        SELECT w.account_id, w.id FROM unnest($1::uuid[], $2::uuid[]) AS w (account_id, id)
    )
    AND c.enrollment_limit IS NOT NULL
ORDER BY c.id
FOR NO KEY UPDATE OF c;

-- name: find_campaigns
-- The campaigns of (account, campaign) pairs with the places that their limit leaves (NULL: no
-- limit). Who was removed has left a place free; who went through to the end has not.
SELECT c.id, c.account_id, c.name, c.status, c.workflow_id,
    CASE WHEN c.enrollment_limit IS NOT NULL THEN
        c.enrollment_limit - (
            SELECT count(*)
            FROM campaign_enrollments n
            WHERE n.campaign_id = c.id AND n.status IN ('active', 'completed')
        )
    END AS places
FROM unnest($1::uuid[], $2::uuid[]) AS w (account_id, id)
JOIN campaigns c ON c.account_id = w.account_id AND c.id = w.id;

-- name: known_campaigns
-- Those of (account, campaign) pairs that exist.
SELECT c.account_id, c.id
FROM unnest($1::uuid[], $2::uuid[]) AS w (account_id, id)
JOIN campaigns c ON c.account_id = w.account_id AND c.id = w.id;

-- name: find_enrolled
-- Those of (account, campaign, contact) triples that are in already: by an active enrolment, or
-- by a live run of the campaign's workflow that began in another way and keeps theirs out.
SELECT w.campaign_id, w.contact_id
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS w (account_id, campaign_id, contact_id)
JOIN campaigns c ON c.account_id = w.account_id AND c.id = w.campaign_id
WHERE EXISTS (
        SELECT FROM campaign_enrollments n
        WHERE n.campaign_id = c.id AND n.contact_id = w.contact_id AND n.status = 'active'
    )
    OR EXISTS (
        SELECT FROM workflow_executions e
        WHERE e.workflow_id = c.workflow_id AND e.contact_id = w.contact_id AND e.entry_key = ''
            AND e.status IN ('running', 'paused')
    );

-- name: find_active_enrollments
-- The active enrolments of (account, campaign, contact) triples.
SELECT n.id, n.campaign_id, n.contact_id, n.execution_id
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS w (account_id, campaign_id, contact_id)
JOIN campaign_enrollments n
    ON n.account_id = w.account_id AND n.campaign_id = w.campaign_id
    AND n.contact_id = w.contact_id AND n.status = 'active'
ORDER BY n.id;

-- name: add_enrollments
-- Write enrolments down.
INSERT INTO campaign_enrollments
    (id, account_id, campaign_id, contact_id, execution_id, step_id, enrolled_at)
SELECT w.id, w.account_id, w.campaign_id, w.contact_id, w.execution_id, w.step_id, $7
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[])
    AS w (id, account_id, campaign_id, contact_id, execution_id, step_id);

-- name: remove_enrollments
-- End enrolments as removed, each with its reason.
UPDATE campaign_enrollments n
SET status = 'removed', removal_reason = w.reason, ended_at = $3
FROM unnest($1::uuid[], $2::text[]) AS w (id, reason)
WHERE n.id = w.id AND n.status = 'active';
