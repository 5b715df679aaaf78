-- Operations: bulk work in the background. Each has a row of its own that says how far it is and
-- takes the wish to cancel it; workers do it chunk by chunk, and a chunk's work and the progress
-- that counts it are one commit.

CREATE TABLE operations (
    id                   uuid PRIMARY KEY,
    account_id           uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    kind                 varchar(40) NOT NULL,
    parameters           jsonb NOT NULL DEFAULT '{}',
    status               varchar(10) NOT NULL DEFAULT 'queued',
    total                bigint,
    done                 bigint NOT NULL DEFAULT 0,
    failed               bigint NOT NULL DEFAULT 0,
    state                jsonb NOT NULL DEFAULT '{}',
    result               jsonb NOT NULL DEFAULT '{}',
    error_code           varchar(60),
    error_message        text,
    chunk                integer NOT NULL DEFAULT 0,
    losses               integer NOT NULL DEFAULT 0,
    worker_id            uuid,
    created_by           uuid,
    created_at           timestamptz NOT NULL,
    turn_at              timestamptz NOT NULL,
    started_at           timestamptz,
    completed_at         timestamptz,
    cancel_requested_at  timestamptz,
    CONSTRAINT operations_belong_to_account UNIQUE (account_id, id),
    CONSTRAINT operation_has_known_status CHECK (
        status IN ('queued', 'running', 'completed', 'failed', 'cancelled')
    ),
    CONSTRAINT operation_counts_are_not_negative CHECK (total >= 0 AND done >= 0 AND failed >= 0),
    CONSTRAINT a_failed_operation_says_why CHECK (status <> 'failed' OR error_code IS NOT NULL),
    CONSTRAINT an_ended_operation_is_in_nobodys_hand CHECK (
        worker_id IS NULL OR status = 'running'
    ),
    CONSTRAINT operation_creator_is_of_account FOREIGN KEY (account_id, created_by)
        REFERENCES users (account_id, id) ON DELETE SET NULL (created_by)
) WITH (fillfactor = 70);
CREATE INDEX operations_waiting ON operations (turn_at)
    WHERE status IN ('queued', 'running') AND worker_id IS NULL;
CREATE INDEX operations_in_hand ON operations (worker_id) WHERE worker_id IS NOT NULL;
CREATE INDEX operations_open ON operations (account_id) WHERE status IN ('queued', 'running');
CREATE INDEX operations_by_account ON operations (account_id, created_at, id);
CREATE INDEX operations_ended ON operations (completed_at) WHERE completed_at IS NOT NULL;
COMMENT ON COLUMN operations.total IS 'NULL: not known, or not known yet.';
COMMENT ON COLUMN operations.state IS 'Where the next chunk begins; what stands in it is the kind''s own matter.';
COMMENT ON COLUMN operations.chunk IS
    'How many chunks are committed: whoever has done a chunk that another has committed meanwhile is told by it.';
COMMENT ON COLUMN operations.losses IS
    'How often a worker died with the present chunk in hand; bounded, so that poison ends.';
COMMENT ON COLUMN operations.turn_at IS 'When it last began to wait for a worker: operations take turns.';

-- What could not be done, item by item: `line` and `column_name` of a file, or the id of the item.
CREATE TABLE operation_errors (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id    uuid NOT NULL,
    operation_id  uuid NOT NULL,
    line          bigint,
    column_name   text,
    item_id       uuid,
    code          varchar(60) NOT NULL,
    message       text NOT NULL,
    CONSTRAINT operation_error_operation_is_of_account FOREIGN KEY (account_id, operation_id)
        REFERENCES operations (account_id, id) ON DELETE CASCADE
);
CREATE INDEX operation_errors_by_operation ON operation_errors (operation_id, id);

-- Files of operations in pieces, each with the place of its first byte: what was uploaded for one,
-- what one has written for download.
CREATE TABLE operation_files (
    account_id    uuid NOT NULL,
    operation_id  uuid NOT NULL,
    side          varchar(8) NOT NULL,
    starts_at     bigint NOT NULL,
    content       bytea NOT NULL,
    PRIMARY KEY (operation_id, side, starts_at),
    CONSTRAINT operation_file_has_known_side CHECK (side IN ('upload', 'download')),
    CONSTRAINT operation_file_operation_is_of_account FOREIGN KEY (account_id, operation_id)
        REFERENCES operations (account_id, id) ON DELETE CASCADE
);
-- Uploads are texts that were compressed for the way, if they were worth it: no second time.
ALTER TABLE operation_files ALTER COLUMN content SET STORAGE EXTERNAL;

-- Refusals of enrolments are read by workflow, newest first, and kept as long as executions.
CREATE INDEX enrollment_refusals_by_workflow ON enrollment_refusals (workflow_id, id);
CREATE INDEX enrollment_refusals_by_time ON enrollment_refusals USING brin (refused_at);

-- Executions of an account, newest first.
CREATE INDEX workflow_executions_by_account ON workflow_executions (account_id, started_at, id);
