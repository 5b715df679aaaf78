-- Changing a definition in few round trips.

ALTER TABLE workflows ADD COLUMN revision integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN workflows.revision IS
    'Counts the changes of the draft: who read it at one revision writes only if it stands there still.';

-- Keys that composite ones imply: each was looked up a second time for every action.
ALTER TABLE workflow_actions
    DROP CONSTRAINT workflow_actions_workflow_id_fkey,
    DROP CONSTRAINT workflow_actions_branch_id_fkey;

-- Lock a workflow's definition until the commit, say that it changes now, and give its live actions:
-- the trunk, then branch by branch, each in order. One row without an action (id is NULL) where
-- there are none; no row where there is no such workflow. Each statement of a volatile function
-- looks afresh, so that the actions are read as the holder of the lock before us left them.
CREATE FUNCTION open_draft(account uuid, workflow uuid)
RETURNS TABLE (
    status varchar, changed_at timestamptz, was_updated_at timestamptz, revision integer,
    id uuid, workflow_id uuid, action_type varchar, action_config jsonb, "position" integer,
    previous_action_id uuid, next_action_id uuid, branch_id uuid, is_enabled boolean,
    on_failure varchar, fallback_action_id uuid, key varchar, canvas_x double precision,
    canvas_y double precision, created_at timestamptz, updated_at timestamptz
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    held record;
    instant timestamptz;
BEGIN
    SELECT w.status, w.updated_at, w.revision INTO held
    FROM workflows w
    WHERE w.account_id = account AND w.id = workflow AND w.deleted_at IS NULL
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    instant := current_instant();
    UPDATE workflows w SET updated_at = instant, revision = w.revision + 1
    WHERE w.account_id = account AND w.id = workflow;
    RETURN QUERY
    SELECT held.status, instant, held.updated_at, held.revision + 1,
        a.id, a.workflow_id, a.action_type, a.action_config, a.position, a.previous_action_id,
        a.next_action_id, a.branch_id, a.is_enabled, a.on_failure, a.fallback_action_id, a.key,
        a.canvas_x, a.canvas_y, a.created_at, a.updated_at
    FROM (SELECT) one
    LEFT JOIN workflow_actions a
        ON a.account_id = account AND a.workflow_id = workflow AND a.deleted_at IS NULL
    ORDER BY a.branch_id NULLS FIRST, a.position;
END
$$;

-- Log one change: by whom and with what, in which request, of what, before and after.
CREATE FUNCTION record_change(
    account uuid, by_user uuid, by_token uuid, by_jwt text, in_request text, change text,
    of_type text, of_id uuid, was jsonb, is_now jsonb
)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO audit_log
        (account_id, user_id, token_id, jwt_id, request_id, action, entity_type, entity_id,
         before, after, at)
    VALUES
        (account, by_user, by_token, by_jwt, in_request, change, of_type, of_id, was, is_now,
         current_instant());
END
$$;
