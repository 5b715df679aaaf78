-- name: find_lanes
-- The lanes of (family, account, workflow, integration), where they exist.
SELECT l.id, l.family, l.account_id, l.workflow_id, l.integration_id
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[])
    AS k (family, account_id, workflow_id, integration_id)
JOIN lanes l ON l.family = k.family AND l.account_id = k.account_id
    AND l.workflow_id IS NOT DISTINCT FROM k.workflow_id
    AND l.integration_id IS NOT DISTINCT FROM k.integration_id;

-- name: make_lanes
-- Make missing lanes, in the given order; a lane of a paused workflow begins paused.
INSERT INTO lanes (family, account_id, workflow_id, integration_id, is_paused)
SELECT k.family, k.account_id, k.workflow_id, k.integration_id, coalesce(w.status = 'paused', false)
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[])
    AS k (family, account_id, workflow_id, integration_id)
LEFT JOIN workflows w ON w.id = k.workflow_id
ON CONFLICT (family, account_id, workflow_id, integration_id) DO NOTHING;

-- name: hold_lanes
-- Hold lanes until an instant each.
UPDATE lanes l
SET held_until = h.held_until, held_reason = $3
FROM unnest($1::bigint[], $2::timestamptz[]) AS h (lane_id, held_until)
WHERE l.id = h.lane_id AND (l.held_until IS NULL OR l.held_until < h.held_until);
