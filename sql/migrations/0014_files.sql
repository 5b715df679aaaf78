-- What accounts have uploaded: attachments, recordings, pictures. The content is an object in the
-- store, named <account id>/<file id>; the row is written after it and deleted before it, so that
-- a death in between leaves an object without a row, which housekeeping removes.

CREATE TABLE files (
    id          uuid PRIMARY KEY,
    account_id  uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    name        text NOT NULL,
    media_type  text NOT NULL,
    size        bigint NOT NULL,
    sha256      bytea NOT NULL,
    created_by  uuid,
    created_at  timestamptz NOT NULL,
    deleted_at  timestamptz,
    missing_at  timestamptz,
    CONSTRAINT files_belong_to_account UNIQUE (account_id, id),
    CONSTRAINT file_name_is_not_blank CHECK (btrim(name) <> '' AND length(name) <= 200),
    CONSTRAINT file_is_not_empty CHECK (size > 0),
    CONSTRAINT file_hash_is_sha256 CHECK (octet_length(sha256) = 32),
    CONSTRAINT file_creator_is_of_account FOREIGN KEY (account_id, created_by)
        REFERENCES users (account_id, id)
);
CREATE INDEX files_by_account ON files (account_id, created_at, id) WHERE deleted_at IS NULL;
COMMENT ON COLUMN files.missing_at IS 'When the store was found not to have the content.';
