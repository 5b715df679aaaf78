-- Branches are deleted softly, as actions are: actions that were deleted go on referring to them.
ALTER TABLE workflow_branches ADD COLUMN deleted_at timestamptz;

-- What the lists of workflows are sorted by.
CREATE INDEX workflows_by_name ON workflows (account_id, lower(name), id) WHERE deleted_at IS NULL;
CREATE INDEX workflows_by_age ON workflows (account_id, created_at, id) WHERE deleted_at IS NULL;
