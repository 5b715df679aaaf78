-- The branches as they stood when a version was made, so that a difference can tell of them.

CREATE TABLE workflow_version_branches (
    version_id  uuid NOT NULL REFERENCES workflow_versions(id) ON DELETE CASCADE,
    branch_id   uuid NOT NULL,
    account_id  uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    name        text NOT NULL,
    PRIMARY KEY (version_id, branch_id)
);

-- What older versions had is known by their actions; of names the present ones are the best guess.
INSERT INTO workflow_version_branches (version_id, branch_id, account_id, name)
SELECT DISTINCT a.version_id, b.id, a.account_id, b.name
FROM workflow_version_actions a
JOIN workflow_branches b ON b.id = a.branch_id;

-- The executions that a filter means; NULL is no condition. PostgreSQL puts the body of this
-- function into the query that calls it, so that an index serves as if it were written there.
CREATE FUNCTION executions_meant(
    account uuid, workflow uuid, contact uuid, of_status text, version uuid,
    started_from timestamptz, started_before timestamptz, at_action uuid, failed_with text,
    begun_until timestamptz, of_statuses text[]
)
RETURNS SETOF workflow_executions
LANGUAGE sql STABLE
AS $$
    SELECT e.*
    FROM workflow_executions e
    WHERE e.account_id = account
      AND (workflow IS NULL OR e.workflow_id = workflow)
      AND (contact IS NULL OR e.contact_id = contact)
      AND (of_status IS NULL OR e.status = of_status)
      AND (version IS NULL OR e.version_id = version)
      AND (started_from IS NULL OR e.started_at >= started_from)
      AND (started_before IS NULL OR e.started_at < started_before)
      AND (at_action IS NULL OR EXISTS (
          SELECT FROM workflow_action_executions s
          WHERE s.workflow_execution_id = e.id AND s.action_id = at_action
            AND s.status IN ('pending', 'scheduled', 'waiting', 'running')
      ))
      AND (failed_with IS NULL OR e.status = 'failed' AND e.end_reason = failed_with)
      AND (begun_until IS NULL OR e.started_at <= begun_until)
      AND e.status = ANY (of_statuses)
$$;
