-- name: add
-- Write the row of a file whose content is in the store.
INSERT INTO files (id, account_id, name, media_type, size, sha256, created_by, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, (SELECT current_instant()))
RETURNING id, name, media_type, size, encode(sha256, 'hex') AS sha256, created_by, created_at,
    missing_at;

-- name: file
-- One file, and the instant at which it was looked up.
SELECT f.id, f.name, f.media_type, f.size, encode(f.sha256, 'hex') AS sha256, f.created_by,
    f.created_at, f.missing_at
FROM files f
WHERE f.account_id = $1 AND f.id = $2 AND f.deleted_at IS NULL;

-- name: files_by_ids
-- Files by their ids, for whoever attaches them; those that are deleted are left out.
SELECT f.id, f.account_id, f.name, f.media_type, f.size
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (account_id, id)
JOIN files f ON f.account_id = wanted.account_id AND f.id = wanted.id
WHERE f.deleted_at IS NULL;

-- name: files
-- The files of an account.
SELECT f.id, f.name, f.media_type, f.size, encode(f.sha256, 'hex') AS sha256, f.created_by,
    f.created_at, f.missing_at
FROM files f
WHERE f.account_id = $1 AND f.deleted_at IS NULL
-- filter media_type: f.media_type = :value
-- sort created_at: f.created_at timestamptz, f.id uuid
-- sort name: lower(f.name) text, f.id uuid
-- sort size: f.size bigint, f.id uuid
;

-- name: lock
-- Lock a file that is to be deleted.
SELECT f.id, f.name, f.media_type, f.size, encode(f.sha256, 'hex') AS sha256, f.created_by,
    f.created_at, f.missing_at
FROM files f
WHERE f.account_id = $1 AND f.id = $2 AND f.deleted_at IS NULL
FOR UPDATE;

-- name: delete
-- Delete a file; messages that were sent with it go on referring to the row.
UPDATE files f
SET deleted_at = (SELECT current_instant())
WHERE f.account_id = $1 AND f.id = $2 AND f.deleted_at IS NULL;

-- name: miss
-- Note that the store does not have the content.
UPDATE files f
SET missing_at = (SELECT current_instant())
WHERE f.account_id = $1 AND f.id = $2 AND f.missing_at IS NULL;

-- name: kept
-- Which of these files have a row that is not deleted: their objects stay.
SELECT f.id FROM files f WHERE f.id = ANY ($1::uuid[]) AND f.deleted_at IS NULL;
