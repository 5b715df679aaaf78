-- name: count_executions
-- How many executions a filter means; NULL is no condition. Those that began after $10 (NULL: no
-- matter) are not meant.
SELECT count(*)
FROM workflow_executions e
WHERE e.account_id = $1
  AND ($2::uuid IS NULL OR e.workflow_id = $2)
  AND ($3::uuid IS NULL OR e.contact_id = $3)
  AND ($4::text IS NULL OR e.status = $4)
  AND ($5::uuid IS NULL OR e.version_id = $5)
  AND ($6::timestamptz IS NULL OR e.started_at >= $6)
  AND ($7::timestamptz IS NULL OR e.started_at < $7)
  AND ($8::uuid IS NULL OR EXISTS (
      SELECT FROM workflow_action_executions s
      WHERE s.workflow_execution_id = e.id AND s.action_id = $8
        AND s.status IN ('pending', 'scheduled', 'waiting', 'running')
  ))
  AND ($9::text IS NULL OR e.status = 'failed' AND e.end_reason = $9)
  AND ($10::timestamptz IS NULL OR e.started_at <= $10)
  AND e.status = ANY ($11::text[]);

-- name: executions
-- The next of them, in the order of their ids.
SELECT e.id
FROM workflow_executions e
WHERE e.account_id = $1
  AND ($2::uuid IS NULL OR e.workflow_id = $2)
  AND ($3::uuid IS NULL OR e.contact_id = $3)
  AND ($4::text IS NULL OR e.status = $4)
  AND ($5::uuid IS NULL OR e.version_id = $5)
  AND ($6::timestamptz IS NULL OR e.started_at >= $6)
  AND ($7::timestamptz IS NULL OR e.started_at < $7)
  AND ($8::uuid IS NULL OR EXISTS (
      SELECT FROM workflow_action_executions s
      WHERE s.workflow_execution_id = e.id AND s.action_id = $8
        AND s.status IN ('pending', 'scheduled', 'waiting', 'running')
  ))
  AND ($9::text IS NULL OR e.status = 'failed' AND e.end_reason = $9)
  AND ($10::timestamptz IS NULL OR e.started_at <= $10)
  AND e.status = ANY ($11::text[])
  AND e.id > $12
ORDER BY e.id
LIMIT $13;
