-- name: begin_attempt
-- Take a key for one attempt: a new one, or one whose last attempt committed nothing and is past
-- its time. Nothing comes back if the key is in use or has its answer.
INSERT INTO idempotency_keys AS k
    (account_id, credential, path, key, request_sha256, attempt, started_at, retry_after)
SELECT $1, $2, $3, $4, $5, $6, c.now, c.now + $7::interval
FROM (SELECT current_instant() AS now) c
ON CONFLICT (account_id, credential, path, key) DO UPDATE
SET request_sha256 = excluded.request_sha256, attempt = excluded.attempt,
    started_at = excluded.started_at, retry_after = excluded.retry_after,
    is_committed = false, status = NULL, headers = NULL, body = NULL
WHERE k.started_at <= excluded.started_at - $8::interval
   OR (NOT k.is_committed AND k.retry_after <= excluded.started_at
       AND k.request_sha256 = excluded.request_sha256)
RETURNING true;

-- name: earlier_attempt
-- What is known of a key.
SELECT k.request_sha256, k.is_committed, k.status, k.headers, k.body,
    k.retry_after <= (SELECT current_instant()) AS is_over
FROM idempotency_keys k
WHERE k.account_id = $1 AND k.credential = $2 AND k.path = $3 AND k.key = $4;

-- name: commit_attempt
-- Say, in the transaction of the change itself, that it is made; nothing if another attempt has
-- taken the key over.
UPDATE idempotency_keys k
SET is_committed = true
WHERE k.account_id = $1 AND k.credential = $2 AND k.path = $3 AND k.key = $4 AND k.attempt = $5
RETURNING true;

-- name: keep_answer
-- Keep the answer of an attempt.
UPDATE idempotency_keys k
SET is_committed = true, status = $6, headers = $7, body = $8,
    retry_after = (SELECT current_instant())
WHERE k.account_id = $1 AND k.credential = $2 AND k.path = $3 AND k.key = $4 AND k.attempt = $5;

-- name: let_go_of_attempt
-- Forget a key whose attempt committed nothing.
DELETE FROM idempotency_keys k
WHERE k.account_id = $1 AND k.credential = $2 AND k.path = $3 AND k.key = $4 AND k.attempt = $5
  AND NOT k.is_committed;

-- name: delete_keys
-- Delete keys from before an instant.
WITH old AS (
    SELECT k.account_id, k.credential, k.path, k.key
    FROM idempotency_keys k
    WHERE k.started_at < $1
    LIMIT $2
),
gone AS (
    DELETE FROM idempotency_keys k USING old
    WHERE k.account_id = old.account_id AND k.credential = old.credential
      AND k.path = old.path AND k.key = old.key
    RETURNING 1
)
SELECT count(*) FROM gone;
