-- name: make_bare
-- What the bare handler inserts into: the columns that are given, the key and nothing else.
CREATE TABLE bare_actions (
    id             uuid PRIMARY KEY,
    account_id     uuid NOT NULL,
    action_type    text NOT NULL,
    action_config  jsonb NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now()
);

-- name: insert_bare
-- One action.
INSERT INTO bare_actions (id, account_id, action_type, action_config) VALUES ($1, $2, $3, $4);
