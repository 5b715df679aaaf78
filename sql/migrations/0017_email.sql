-- Message templates, and what e-mail must carry.

-- A template is a name over versions. A version is written once and never changed: what was sent
-- by it can be told for ever.
CREATE TABLE message_templates (
    id          uuid PRIMARY KEY,
    account_id  uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    name        text NOT NULL,
    purpose     varchar(15) NOT NULL,
    version     integer NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    deleted_at  timestamptz,
    CONSTRAINT message_templates_belong_to_account UNIQUE (account_id, id),
    CONSTRAINT template_name_is_not_blank CHECK (btrim(name) <> ''),
    CONSTRAINT template_has_known_purpose CHECK (purpose IN ('marketing', 'transactional'))
);
CREATE INDEX message_templates_by_account ON message_templates (account_id, created_at, id)
    WHERE deleted_at IS NULL;
COMMENT ON COLUMN message_templates.version IS 'The newest; it is what is sent.';
COMMENT ON COLUMN message_templates.purpose IS
    'Marketing bears the postal address and a way to unsubscribe; transactional answers to something that the contact did.';

CREATE TABLE message_template_versions (
    account_id   uuid NOT NULL,
    template_id  uuid NOT NULL,
    version      integer NOT NULL,
    html         text NOT NULL,
    text         text,
    created_at   timestamptz NOT NULL,
    created_by   uuid,
    PRIMARY KEY (template_id, version),
    CONSTRAINT template_version_is_of_template FOREIGN KEY (account_id, template_id)
        REFERENCES message_templates (account_id, id) ON DELETE CASCADE,
    CONSTRAINT template_version_creator_is_of_account FOREIGN KEY (account_id, created_by)
        REFERENCES users (account_id, id)
);
COMMENT ON COLUMN message_template_versions.text IS 'NULL: generated from the HTML.';

ALTER TABLE accounts ADD COLUMN postal_address text NOT NULL DEFAULT '';
COMMENT ON COLUMN accounts.postal_address IS
    'What marketing mail must carry (15 U.S.C. 7704(a)(5)(A)(iii)), with its line breaks.';
