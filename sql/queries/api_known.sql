-- name: users
-- Which of these are users of the account, held until the commit.
SELECT u.id FROM users u WHERE u.account_id = $1 AND u.id = ANY ($2::uuid[]) FOR KEY SHARE;

-- name: contacts
-- Which of these are contacts of the account.
SELECT c.id FROM contacts c
WHERE c.account_id = $1 AND c.id = ANY ($2::uuid[]) AND c.erased_at IS NULL
FOR KEY SHARE;

-- name: workflows
-- Which of these are workflows of the account.
SELECT w.id FROM workflows w
WHERE w.account_id = $1 AND w.id = ANY ($2::uuid[]) AND w.deleted_at IS NULL
FOR KEY SHARE;

-- name: pipelines
-- Which of these are pipelines of the account; shared with others, but not with who deletes them.
SELECT p.id FROM pipelines p
WHERE p.account_id = $1 AND p.id = ANY ($2::uuid[]) AND p.deleted_at IS NULL
FOR SHARE;

-- name: stages
-- Which of these are stages of the account, likewise.
SELECT s.id FROM pipeline_stages s
WHERE s.account_id = $1 AND s.id = ANY ($2::uuid[]) AND s.deleted_at IS NULL
FOR SHARE;

-- name: courses
-- Which of these are courses of the account, likewise.
SELECT c.id FROM courses c
WHERE c.account_id = $1 AND c.id = ANY ($2::uuid[]) AND c.deleted_at IS NULL
FOR SHARE;
