-- name: lock_account
-- Let one at a time begin operations of an account, so that they can be counted.
SELECT FROM accounts a WHERE a.id = $1 FOR NO KEY UPDATE;

-- name: open_operations
-- How many operations of an account are not ended.
SELECT count(*) FROM operations o WHERE o.account_id = $1 AND o.status IN ('queued', 'running');

-- name: add_operation
-- Queue an operation.
INSERT INTO operations (id, account_id, kind, parameters, total, created_by, created_at, turn_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7);

-- name: operation
-- One operation, as people see it.
SELECT o.id, o.kind, o.parameters, o.status, o.total, o.done, o.failed, o.result, o.error_code,
    o.error_message, o.created_by, o.created_at, o.started_at, o.completed_at, o.cancel_requested_at
FROM operations o
WHERE o.account_id = $1 AND o.id = $2;

-- name: operations
-- A page of operations, newest first, optionally those of a kind or status.
SELECT o.id, o.kind, o.parameters, o.status, o.total, o.done, o.failed, o.result, o.error_code,
    o.error_message, o.created_by, o.created_at, o.started_at, o.completed_at, o.cancel_requested_at
FROM operations o
WHERE o.account_id = $1
  AND ($2::text IS NULL OR o.kind = $2)
  AND ($3::text IS NULL OR o.status = $3)
  AND (o.created_at, o.id) < (
      coalesce($4::timestamptz, 'infinity'),
      coalesce($5::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  )
ORDER BY o.created_at DESC, o.id DESC
LIMIT $6;

-- name: errors
-- A page of what an operation could not do, in the order in which it came upon it.
SELECT r.id, r.line, r.column_name AS "column", r.item_id, r.code, r.message
FROM operation_errors r
WHERE r.account_id = $1 AND r.operation_id = $2 AND r.id > $3
ORDER BY r.id
LIMIT $4;

-- name: ask_to_cancel
-- Ask for an operation's end. One that nobody has in hand ends at once, any other behind its
-- present chunk. No row: it has ended.
UPDATE operations o
SET cancel_requested_at = coalesce(o.cancel_requested_at, $3),
    status = CASE WHEN o.worker_id IS NULL THEN 'cancelled' ELSE o.status END,
    completed_at = CASE WHEN o.worker_id IS NULL THEN $3::timestamptz END
WHERE o.account_id = $1 AND o.id = $2 AND o.status IN ('queued', 'running')
RETURNING o.status;

-- name: claim_operation
-- Take the operation in hand whose turn it is: of the account of which the fewest are in hand,
-- then the one that has waited longest. Only of known kinds, and only for a worker that lives.
UPDATE operations o
SET status = 'running', worker_id = $1, started_at = coalesce(o.started_at, $2)
WHERE o.id = (
    SELECT w.id
    FROM operations w
    WHERE w.status IN ('queued', 'running') AND w.worker_id IS NULL AND w.kind = ANY ($3::text[])
    ORDER BY (
        SELECT count(*) FROM operations r
        WHERE r.account_id = w.account_id AND r.status IN ('queued', 'running')
          AND r.worker_id IS NOT NULL
    ), w.turn_at, w.id
    LIMIT 1
    FOR NO KEY UPDATE SKIP LOCKED
) AND EXISTS (SELECT FROM workers k WHERE k.id = $1 AND k.lease_expires_at > $2)
RETURNING o.id, o.account_id, o.kind, o.parameters, o.state, o.result, o.created_by, o.created_at,
    o.chunk;

-- name: commit_chunk
-- Count a chunk in the commit of its work, fenced by worker and chunk. No row: it was taken away
-- from this worker meanwhile, and the work is not to be committed. Gives the status.
UPDATE operations o
SET chunk = o.chunk + 1,
    done = o.done + $4,
    failed = o.failed + $5,
    total = coalesce($6, o.total),
    state = $7,
    result = $8,
    losses = 0,
    status = CASE
        WHEN $9 THEN 'completed' WHEN o.cancel_requested_at IS NOT NULL THEN 'cancelled'
        ELSE 'running'
    END,
    worker_id = CASE WHEN $9 OR o.cancel_requested_at IS NOT NULL THEN NULL ELSE o.worker_id END,
    completed_at = CASE WHEN $9 OR o.cancel_requested_at IS NOT NULL THEN $10::timestamptz END
WHERE o.id = $1 AND o.worker_id = $2 AND o.chunk = $3 AND o.status = 'running'
RETURNING o.status;

-- name: fail
-- End an operation that cannot go on, unless it was taken away from this worker.
UPDATE operations o
SET status = 'failed', error_code = $3, error_message = $4, completed_at = $5, worker_id = NULL
WHERE o.id = $1 AND o.worker_id = $2 AND o.status = 'running';

-- name: put_down
-- Leave an operation to whoever comes next, unless it is to end here.
UPDATE operations o
SET worker_id = NULL,
    turn_at = $3,
    status = CASE WHEN o.cancel_requested_at IS NULL THEN o.status ELSE 'cancelled' END,
    completed_at = CASE WHEN o.cancel_requested_at IS NOT NULL THEN $3::timestamptz END
WHERE o.id = $1 AND o.worker_id = $2;

-- name: drop_operations
-- Leave what this worker does not have in hand (any more), other than $2, to whoever comes next.
UPDATE operations o
SET worker_id = NULL,
    status = CASE WHEN o.cancel_requested_at IS NULL THEN o.status ELSE 'cancelled' END,
    completed_at = CASE WHEN o.cancel_requested_at IS NOT NULL THEN current_instant() END
WHERE o.worker_id = $1 AND o.id <> ALL ($2::uuid[]);

-- name: give_back_operations
-- What workers had in hand that are no more waits for others; what was in hand $2 times when its
-- worker died is poison. What was to be cancelled is.
UPDATE operations o
SET worker_id = NULL,
    losses = o.losses + 1,
    status = CASE
        WHEN o.cancel_requested_at IS NOT NULL THEN 'cancelled'
        WHEN o.losses + 1 >= $2 THEN 'failed'
        ELSE 'running'
    END,
    completed_at = CASE
        WHEN o.cancel_requested_at IS NOT NULL OR o.losses + 1 >= $2 THEN $1::timestamptz
    END,
    error_code = CASE
        WHEN o.cancel_requested_at IS NULL AND o.losses + 1 >= $2 THEN 'worker_lost'
    END,
    error_message = CASE
        WHEN o.cancel_requested_at IS NULL AND o.losses + 1 >= $2
        THEN 'workers died with this chunk in hand, time after time'
    END
WHERE o.id IN (
    SELECT l.id
    FROM operations l
    WHERE l.worker_id IS NOT NULL AND NOT EXISTS (SELECT FROM workers k WHERE k.id = l.worker_id)
    ORDER BY l.id
    FOR NO KEY UPDATE SKIP LOCKED
)
RETURNING o.id, o.status;

-- name: has_waiting_operations
-- Whether an operation waits for a worker.
SELECT EXISTS (
    SELECT FROM operations o WHERE o.status IN ('queued', 'running') AND o.worker_id IS NULL
);

-- name: add_file_piece
-- Keep a piece of a file.
INSERT INTO operation_files (account_id, operation_id, side, starts_at, content)
VALUES ($1, $2, $3, $4, $5);

-- name: file_pieces
-- The pieces of a file that end behind a place, in order.
SELECT f.starts_at, f.content
FROM operation_files f
WHERE f.account_id = $1 AND f.operation_id = $2 AND f.side = $3
  AND f.starts_at + octet_length(f.content) > $4
ORDER BY f.starts_at
LIMIT $5;

-- name: file_size
-- How many bytes a file has; NULL if there is none.
SELECT sum(octet_length(f.content))::bigint
FROM operation_files f
WHERE f.account_id = $1 AND f.operation_id = $2 AND f.side = $3;

-- name: delete_uploads_of_ended
-- Delete what was uploaded for operations that have ended.
WITH old AS (
    SELECT f.operation_id, f.side, f.starts_at
    FROM operation_files f
    JOIN operations o ON o.id = f.operation_id
    WHERE f.side = 'upload' AND o.status IN ('completed', 'failed', 'cancelled')
    LIMIT $1
),
gone AS (
    DELETE FROM operation_files f USING old
    WHERE f.operation_id = old.operation_id AND f.side = old.side AND f.starts_at = old.starts_at
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: delete_upload
-- Delete what was uploaded for an operation, which has ended.
DELETE FROM operation_files f WHERE f.operation_id = $1 AND f.side = 'upload';

-- name: delete_downloads
-- Delete what operations wrote for download that ended before an instant.
WITH old AS (
    SELECT f.operation_id, f.side, f.starts_at
    FROM operation_files f
    JOIN operations o ON o.id = f.operation_id
    WHERE f.side = 'download' AND o.completed_at < $1
    LIMIT $2
),
gone AS (
    DELETE FROM operation_files f USING old
    WHERE f.operation_id = old.operation_id AND f.side = old.side AND f.starts_at = old.starts_at
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: delete_operations
-- Delete operations that ended before an instant, with their errors and files.
WITH old AS (
    SELECT o.id FROM operations o WHERE o.completed_at < $1 ORDER BY o.completed_at LIMIT $2
),
gone AS (
    DELETE FROM operations o USING old WHERE o.id = old.id RETURNING o.id
)
SELECT count(*) FROM gone;
