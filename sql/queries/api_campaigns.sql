-- name: campaigns
-- The campaigns of an account; see api/lists.py.
SELECT c.id, c.name, c.status, c.workflow_id, c.enrollment_limit, c.created_at, c.updated_at
FROM campaigns c
WHERE c.account_id = $1 AND c.deleted_at IS NULL
-- filter status: c.status = :value
-- filter workflow_id: c.workflow_id = :value
-- sort name: lower(c.name) text, c.id uuid
-- sort created_at: c.created_at timestamptz, c.id uuid
;

-- name: campaign
-- One campaign, with how many enrolments stand where.
SELECT c.id, c.name, c.status, c.workflow_id, c.enrollment_limit, c.created_at, c.updated_at,
    (
        SELECT jsonb_build_object(
            'active', count(*) FILTER (WHERE n.status = 'active'),
            'completed', count(*) FILTER (WHERE n.status = 'completed'),
            'removed', count(*) FILTER (WHERE n.status = 'removed')
        )
        FROM campaign_enrollments n
        WHERE n.campaign_id = c.id
    ) AS enrollments
FROM campaigns c
WHERE c.account_id = $1 AND c.id = $2 AND c.deleted_at IS NULL;

-- name: add_campaign
-- Make a campaign.
INSERT INTO campaigns
    (account_id, id, name, status, workflow_id, enrollment_limit, created_at, updated_at)
VALUES ($1, $2, $4, $5, $6, $7, $3, $3);

-- name: change_campaign
-- Write a campaign's fields.
UPDATE campaigns c
SET name = $4, status = $5, workflow_id = $6, enrollment_limit = $7, updated_at = $3
WHERE c.account_id = $1 AND c.id = $2;

-- name: delete_campaign
-- End a campaign for good; its row stays for the enrolments that it had, whose runs go on.
UPDATE campaigns c
SET status = 'ended', deleted_at = (SELECT current_instant())
WHERE c.account_id = $1 AND c.id = $2;

-- name: enrollments
-- The enrolments of a campaign; see api/lists.py.
SELECT n.id, n.contact_id, n.execution_id, n.status, n.enrolled_at, n.ended_at, n.removal_reason
FROM campaign_enrollments n
WHERE n.account_id = $1 AND n.campaign_id = $2
-- filter status: n.status = :value
-- filter contact_id: n.contact_id = :value
-- sort enrolled_at: n.enrolled_at timestamptz, n.id uuid
;
