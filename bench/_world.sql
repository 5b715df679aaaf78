-- name: make_account
-- An account with one user.
WITH made AS (
    INSERT INTO accounts (name) VALUES ('Benchmark') RETURNING id
)
INSERT INTO users (account_id, email, name)
SELECT id, 'owner@example.com', 'Olga Owner' FROM made
RETURNING account_id, id AS user_id;

-- name: make_contacts
-- Contacts that belong to the user; gives their ids.
INSERT INTO contacts (account_id, first_name, last_name, email, email_normalized, owner_id)
SELECT $1, 'First' || n, 'Last' || n, 'c' || n || '@example.com', 'c' || n || '@example.com', $2
FROM generate_series(1, $3::integer) AS n
RETURNING id;

-- name: make_tag
-- A tag, by its name.
INSERT INTO tags (account_id, name) VALUES ($1, $2) RETURNING id;

-- name: tag_everybody
-- Give every contact of the account a tag.
INSERT INTO contact_tags (account_id, contact_id, tag_id, added_at)
SELECT c.account_id, c.id, $2, now() FROM contacts c WHERE c.account_id = $1;

-- name: make_workflow
-- A workflow that is not active yet.
INSERT INTO workflows (account_id, name) VALUES ($1, $2) RETURNING id;

-- name: make_actions
-- Its actions, in their order.
INSERT INTO workflow_actions
    (id, account_id, workflow_id, action_type, action_config, position, next_action_id)
SELECT a.id, $1, $2, a.action_type, a.config, a.ordinality - 1, lead(a.id) OVER (ORDER BY a.ordinality)
FROM unnest($3::uuid[], $4::text[], $5::jsonb[]) WITH ORDINALITY AS a (id, action_type, config, ordinality);

-- name: is_over
-- Whether no execution of a workflow runs any more. Asked many times a second beside what is
-- measured: from the newest on, so that the ended ones of earlier rounds are not read each time.
SELECT coalesce((
    SELECT false
    FROM workflow_executions e
    WHERE e.workflow_id = $1 AND e.status IN ('running', 'paused')
    ORDER BY e.started_at DESC
    LIMIT 1
), true);

-- name: server
-- What the server is and how careful it is with what it commits.
SELECT current_setting('server_version') AS postgres,
    current_setting('fsync') AS fsync,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('shared_buffers') AS shared_buffers;
