-- Webhooks: the secrets that sign them, and the hosts that they go to.

-- Standard Webhooks secrets, sealed. While one is being replaced, both sign.
CREATE TABLE webhook_secrets (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id  uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    sealed      text NOT NULL,
    created_at  timestamptz NOT NULL,
    retires_at  timestamptz
);
CREATE UNIQUE INDEX one_webhook_secret_is_current ON webhook_secrets (account_id) WHERE retires_at IS NULL;
CREATE INDEX webhook_secrets_by_account ON webhook_secrets (account_id, created_at);
COMMENT ON COLUMN webhook_secrets.retires_at IS 'NULL: the current one; until then an older one signs as well.';

-- A host that webhooks go to is an integration like any other, so that its limits and its breaker
-- are known before a call is claimed.
CREATE UNIQUE INDEX webhook_host_is_known_once ON integrations (account_id, name) WHERE kind = 'webhook_host';
