-- Who calls: scoped tokens that know when they were last used, an audit log that knows the token
-- and the request, and the answers that are kept under an Idempotency-Key.

ALTER TABLE api_tokens
    ADD COLUMN scopes text[],
    ADD COLUMN created_by uuid,
    ADD COLUMN last_used_at timestamptz,
    ADD CONSTRAINT api_token_has_scopes_or_none CHECK (scopes IS NULL OR cardinality(scopes) > 0);
CREATE INDEX api_tokens_by_account ON api_tokens (account_id, created_at, id);
CREATE INDEX api_tokens_by_user ON api_tokens (account_id, user_id, created_at, id);
COMMENT ON COLUMN api_tokens.scopes IS
    'Permissions that the token is narrowed to, never more than its user''s role has; NULL: all of the role.';
COMMENT ON COLUMN api_tokens.last_used_at IS 'To the minute: written at most once a minute.';

ALTER TABLE audit_log
    ADD COLUMN token_id uuid,
    ADD COLUMN jwt_id text,
    ADD COLUMN request_id text;
CREATE INDEX audit_log_by_user ON audit_log (account_id, user_id, id);
COMMENT ON COLUMN audit_log.token_id IS 'The token it was done with; it may be gone by now.';
COMMENT ON COLUMN audit_log.jwt_id IS 'The jti of the JWT it was done with.';

CREATE TABLE idempotency_keys (
    account_id      uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    credential      text NOT NULL,
    path            text NOT NULL,
    key             text NOT NULL,
    request_sha256  bytea NOT NULL,
    attempt         uuid NOT NULL,
    started_at      timestamptz NOT NULL,
    retry_after     timestamptz NOT NULL,
    is_committed    boolean NOT NULL DEFAULT false,
    status          smallint,
    headers         jsonb,
    body            bytea,
    PRIMARY KEY (account_id, credential, path, key),
    CONSTRAINT idempotency_answer_is_of_what_was_committed CHECK (status IS NULL OR is_committed)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (started_at);
COMMENT ON TABLE idempotency_keys IS
    'Requests with an Idempotency-Key, and what they were answered. is_committed is set in the transaction of the change itself.';
COMMENT ON COLUMN idempotency_keys.retry_after IS
    'Until then whoever set attempt has the key; later, unless is_committed, anybody may take it over.';
