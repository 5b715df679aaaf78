-- Whose messages go out by what, and who may be written to.

-- An integration is a sender of its account: an SMTP server, a Twilio account, a Facebook page.
-- Removed ones stay as history of what went out by them.
ALTER TABLE integrations
    ADD COLUMN settings jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN secrets jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN disabled_at timestamptz,
    ADD COLUMN deleted_at timestamptz,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),
    ADD CONSTRAINT integration_name_is_not_blank CHECK (btrim(name) <> ''),
    ADD CONSTRAINT integration_settings_are_an_object CHECK (jsonb_typeof(settings) = 'object'),
    ADD CONSTRAINT integration_secrets_are_an_object CHECK (jsonb_typeof(secrets) = 'object');
CREATE INDEX integrations_by_account ON integrations (account_id, kind, created_at)
    WHERE deleted_at IS NULL;
COMMENT ON COLUMN integrations.secrets IS
    'By field, each sealed for the place <account>:integrations:<id>:<field>.';

-- The addresses that an integration sends from; a removed integration has none.
CREATE TABLE sender_addresses (
    account_id      uuid NOT NULL,
    kind            varchar(20) NOT NULL,
    address         text NOT NULL,
    integration_id  uuid NOT NULL,
    ordinal         integer NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, kind, address),
    CONSTRAINT sender_address_integration_is_of_account FOREIGN KEY (account_id, integration_id)
        REFERENCES integrations (account_id, id) ON DELETE CASCADE
);
CREATE INDEX sender_addresses_by_integration ON sender_addresses (integration_id, ordinal);
CREATE INDEX sender_addresses_by_address ON sender_addresses (kind, address);
COMMENT ON COLUMN sender_addresses.address IS
    'Normalised: an e-mail address, or @ and a domain for all of its addresses; a number in E.164; the id that Facebook gave a page.';

-- What an opt-out stops: everything, or marketing alone (who unsubscribes still gets invoices).
ALTER TABLE channel_addresses
    ADD COLUMN scope varchar(10) NOT NULL DEFAULT 'all',
    ADD CONSTRAINT opt_out_has_known_scope CHECK (scope IN ('all', 'marketing'));

-- Opt-outs of people who were erased: the address itself is gone, its salted hash still keeps
-- it from being written to.
ALTER TABLE accounts
    ADD COLUMN address_salt bytea NOT NULL
        DEFAULT sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')),
    ADD COLUMN consent_required_for text[] NOT NULL DEFAULT '{sms,voice}';
COMMENT ON COLUMN accounts.consent_required_for IS
    'Channels on which marketing goes only to those who have consented to it.';

CREATE FUNCTION address_hash(salt bytea, channel text, address text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT sha256(salt || convert_to(channel || ':' || address, 'UTF8')) $$;

CREATE TABLE erased_addresses (
    account_id    uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    channel       varchar(20) NOT NULL,
    address_hash  bytea NOT NULL,
    opted_out_at  timestamptz NOT NULL,
    reason        text NOT NULL,
    scope         varchar(10) NOT NULL DEFAULT 'all',
    PRIMARY KEY (account_id, channel, address_hash),
    CONSTRAINT erased_opt_out_has_known_scope CHECK (scope IN ('all', 'marketing'))
);

-- Every opt-out that holds, of known and of erased addresses; to be asked by account, channel
-- and address, which reaches both indexes.
CREATE FUNCTION opt_outs_of(of_account uuid, of_channel text, of_address text)
RETURNS TABLE (opted_out_at timestamptz, reason text, scope text)
LANGUAGE sql STABLE ROWS 1
AS $$
    SELECT a.opted_out_at, a.reason, a.scope
    FROM channel_addresses a
    WHERE a.account_id = of_account AND a.channel = of_channel AND a.address = of_address
      AND a.opted_out_at IS NOT NULL
    UNION ALL
    SELECT e.opted_out_at, e.reason, e.scope
    FROM erased_addresses e
    WHERE e.account_id = of_account AND e.channel = of_channel
      AND e.address_hash = address_hash(
          (SELECT c.address_salt FROM accounts c WHERE c.id = of_account), of_channel, of_address
      )
$$;

-- Channels on which a contact wants to hear nothing, for as long as it stands there.
ALTER TABLE contacts ADD COLUMN do_not_disturb text[] NOT NULL DEFAULT '{}';

-- Consent as it was given and withdrawn; the newest row of a contact and channel counts.
CREATE TABLE consents (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id   uuid NOT NULL,
    contact_id   uuid NOT NULL,
    channel      varchar(20) NOT NULL,
    is_given     boolean NOT NULL,
    source       text NOT NULL,
    wording      text NOT NULL DEFAULT '',
    at           timestamptz NOT NULL,
    recorded_at  timestamptz NOT NULL,
    recorded_by  uuid,
    CONSTRAINT consent_contact_is_of_account FOREIGN KEY (account_id, contact_id)
        REFERENCES contacts (account_id, id) ON DELETE CASCADE,
    CONSTRAINT consent_user_is_of_account FOREIGN KEY (account_id, recorded_by)
        REFERENCES users (account_id, id)
);
CREATE INDEX consents_by_contact ON consents (contact_id, channel, at DESC, id DESC);
COMMENT ON COLUMN consents.at IS 'When it was given or withdrawn; recorded_at is when we heard of it.';

ALTER TABLE workflows
    ADD COLUMN settings jsonb NOT NULL DEFAULT '{}',
    ADD CONSTRAINT workflow_settings_are_an_object CHECK (jsonb_typeof(settings) = 'object');
COMMENT ON COLUMN workflows.settings IS
    '{"stop_on_reply": true}: a reply of the contact ends their runs before anything further is sent.';
