-- name: announce_completions
-- Notify of every completed step, as its transaction commits.
CREATE FUNCTION announce_completion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('bench_step_completed', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER announce_completion AFTER UPDATE ON workflow_action_executions
FOR EACH ROW WHEN (new.status = 'completed') EXECUTE FUNCTION announce_completion();

-- name: tickets_left
-- Whether a ticket is queued or being answered.
SELECT EXISTS (
    SELECT FROM procrastinate_jobs j WHERE j.task_name = 'ticket' AND j.status IN ('todo', 'doing')
);
