-- name: find_lanes
-- The lanes of (family, account, workflow, integration), where they exist.
SELECT l.id, l.family, l.account_id, l.workflow_id, l.integration_id
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[])
    AS k (family, account_id, workflow_id, integration_id)
JOIN lanes l ON l.family = k.family AND l.account_id = k.account_id
    AND l.workflow_id IS NOT DISTINCT FROM k.workflow_id
    AND l.integration_id IS NOT DISTINCT FROM k.integration_id;

-- name: lock_workflows
-- Lock workflows against pausing and activating.
SELECT FROM workflows w WHERE w.id = ANY ($1::uuid[]) ORDER BY w.id FOR SHARE;

-- name: make_lanes
-- Make missing lanes, in the given order; a lane of a paused workflow begins paused.
INSERT INTO lanes (family, account_id, workflow_id, integration_id, is_paused)
SELECT k.family, k.account_id, k.workflow_id, k.integration_id, coalesce(w.status = 'paused', false)
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[])
    AS k (family, account_id, workflow_id, integration_id)
LEFT JOIN workflows w ON w.id = k.workflow_id
ON CONFLICT (family, account_id, workflow_id, integration_id) DO NOTHING;

-- name: hold_lanes
-- Hold lanes until an instant each; lanes are always locked in the order of their ids.
WITH wanted AS (
    SELECT h.lane_id, h.held_until
    FROM unnest($1::bigint[], $2::timestamptz[]) AS h (lane_id, held_until)
),
locked AS (
    SELECT l.id FROM lanes l
    WHERE l.id IN (SELECT lane_id FROM wanted)
    ORDER BY l.id
    FOR NO KEY UPDATE
)
UPDATE lanes l
SET held_until = w.held_until, held_reason = $3
FROM wanted w
JOIN locked ON locked.id = w.lane_id
WHERE l.id = w.lane_id AND (l.held_until IS NULL OR l.held_until < w.held_until);
