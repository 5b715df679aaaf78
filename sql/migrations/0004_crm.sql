-- The CRM that actions read and write: contacts, tags, campaigns, pipelines, tasks, notes.

CREATE TABLE custom_fields (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id  uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    key         varchar(64) NOT NULL,
    label       text NOT NULL DEFAULT '',
    field_type  varchar(20) NOT NULL DEFAULT 'text',
    options     jsonb NOT NULL DEFAULT '[]',
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT custom_field_key_is_unique_in_account UNIQUE (account_id, key),
    CONSTRAINT custom_field_key_is_an_identifier CHECK (key ~ '^[a-z][a-z0-9_]*$'),
    CONSTRAINT custom_field_has_known_type CHECK (
        field_type IN ('text', 'number', 'boolean', 'date', 'datetime', 'choice', 'multi_choice')
    )
);

CREATE TABLE contacts (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id     uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    first_name     text,
    last_name      text,
    email          text,
    email_normalized text,
    phone          text,
    phone_normalized text,
    time_zone      text,
    owner_id       uuid,
    custom_fields  jsonb NOT NULL DEFAULT '{}',
    is_duplicate   boolean NOT NULL DEFAULT false,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    erased_at      timestamptz,
    CONSTRAINT contacts_belong_to_account UNIQUE (account_id, id),
    CONSTRAINT contact_owner_is_of_account FOREIGN KEY (account_id, owner_id)
        REFERENCES users (account_id, id),
    CONSTRAINT contact_custom_fields_are_an_object CHECK (jsonb_typeof(custom_fields) = 'object')
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
-- Rows that create_contact made with duplicate_handling = create_duplicate are exempt.
CREATE UNIQUE INDEX contact_email_is_unique_in_account
    ON contacts (account_id, email_normalized) WHERE NOT is_duplicate AND email_normalized IS NOT NULL;
CREATE INDEX contacts_by_phone
    ON contacts (account_id, phone_normalized, id) WHERE phone_normalized IS NOT NULL;
CREATE INDEX contacts_by_owner ON contacts (account_id, owner_id) WHERE owner_id IS NOT NULL;

CREATE TABLE contact_field_changes (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id    uuid NOT NULL,
    contact_id    uuid NOT NULL,
    field         text NOT NULL,
    old_value     jsonb,
    new_value     jsonb,
    step_id       uuid,
    user_id       uuid,
    changed_at    timestamptz NOT NULL,
    CONSTRAINT field_change_contact_is_of_account FOREIGN KEY (account_id, contact_id)
        REFERENCES contacts (account_id, id) ON DELETE CASCADE
);
CREATE INDEX contact_field_changes_by_contact ON contact_field_changes (contact_id, changed_at);

CREATE TABLE tags (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id  uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    name        text NOT NULL,
    color       text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT tags_belong_to_account UNIQUE (account_id, id),
    CONSTRAINT tag_name_is_not_blank CHECK (btrim(name) <> '' AND length(name) <= 100)
);
CREATE UNIQUE INDEX tag_name_is_unique_in_account ON tags (account_id, lower(name));

CREATE TABLE contact_tags (
    account_id  uuid NOT NULL,
    contact_id  uuid NOT NULL,
    tag_id      uuid NOT NULL,
    added_at    timestamptz NOT NULL,
    step_id     uuid,
    PRIMARY KEY (contact_id, tag_id),
    CONSTRAINT contact_tag_contact_is_of_account FOREIGN KEY (account_id, contact_id)
        REFERENCES contacts (account_id, id) ON DELETE CASCADE,
    CONSTRAINT contact_tag_tag_is_of_account FOREIGN KEY (account_id, tag_id)
        REFERENCES tags (account_id, id) ON DELETE CASCADE
);
CREATE INDEX contact_tags_by_tag ON contact_tags (tag_id, contact_id);

CREATE TABLE pipelines (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id  uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    name        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz,
    CONSTRAINT pipelines_belong_to_account UNIQUE (account_id, id)
);

CREATE TABLE pipeline_stages (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id   uuid NOT NULL,
    pipeline_id  uuid NOT NULL,
    name         text NOT NULL,
    position     integer NOT NULL,
    deleted_at   timestamptz,
    CONSTRAINT stages_belong_to_pipeline UNIQUE (account_id, pipeline_id, id),
    CONSTRAINT stage_pipeline_is_of_account FOREIGN KEY (account_id, pipeline_id)
        REFERENCES pipelines (account_id, id) ON DELETE CASCADE
);
CREATE INDEX pipeline_stages_in_order ON pipeline_stages (pipeline_id, position);

CREATE TABLE opportunities (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id   uuid NOT NULL,
    contact_id   uuid NOT NULL,
    pipeline_id  uuid NOT NULL,
    stage_id     uuid NOT NULL,
    owner_id     uuid,
    name         text NOT NULL,
    value        numeric(20, 4),
    currency     varchar(3),
    status       varchar(10) NOT NULL DEFAULT 'open',
    stage_entered_at timestamptz NOT NULL DEFAULT now(),
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT opportunities_belong_to_account UNIQUE (account_id, id),
    CONSTRAINT opportunity_has_known_status CHECK (status IN ('open', 'won', 'lost')),
    CONSTRAINT opportunity_contact_is_of_account FOREIGN KEY (account_id, contact_id)
        REFERENCES contacts (account_id, id) ON DELETE CASCADE,
    CONSTRAINT opportunity_stage_is_of_pipeline FOREIGN KEY (account_id, pipeline_id, stage_id)
        REFERENCES pipeline_stages (account_id, pipeline_id, id),
    CONSTRAINT opportunity_owner_is_of_account FOREIGN KEY (account_id, owner_id)
        REFERENCES users (account_id, id)
);
CREATE INDEX opportunities_by_contact ON opportunities (contact_id, created_at);
CREATE INDEX open_opportunities_by_owner ON opportunities (account_id, owner_id) WHERE status = 'open';

CREATE TABLE opportunity_stage_history (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id      uuid NOT NULL,
    opportunity_id  uuid NOT NULL,
    from_pipeline_id uuid,
    from_stage_id   uuid,
    to_pipeline_id  uuid NOT NULL,
    to_stage_id     uuid NOT NULL,
    step_id         uuid,
    user_id         uuid,
    moved_at        timestamptz NOT NULL,
    CONSTRAINT stage_history_opportunity_is_of_account FOREIGN KEY (account_id, opportunity_id)
        REFERENCES opportunities (account_id, id) ON DELETE CASCADE
);
CREATE INDEX opportunity_stage_history_by_opportunity ON opportunity_stage_history (opportunity_id, moved_at);

CREATE TABLE tasks (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id   uuid NOT NULL,
    contact_id   uuid NOT NULL,
    assignee_id  uuid,
    title        text NOT NULL,
    description  text,
    due_at       timestamptz,
    priority     varchar(10) NOT NULL DEFAULT 'medium',
    status       varchar(10) NOT NULL DEFAULT 'open',
    step_id      uuid,
    created_at   timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    CONSTRAINT tasks_belong_to_account UNIQUE (account_id, id),
    CONSTRAINT task_has_known_priority CHECK (priority IN ('low', 'medium', 'high')),
    CONSTRAINT task_has_known_status CHECK (status IN ('open', 'done', 'cancelled')),
    CONSTRAINT task_contact_is_of_account FOREIGN KEY (account_id, contact_id)
        REFERENCES contacts (account_id, id) ON DELETE CASCADE,
    CONSTRAINT task_assignee_is_of_account FOREIGN KEY (account_id, assignee_id)
        REFERENCES users (account_id, id)
);
CREATE INDEX tasks_by_contact ON tasks (contact_id);
CREATE INDEX open_tasks_by_assignee ON tasks (account_id, assignee_id) WHERE status = 'open';

CREATE TABLE notes (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id  uuid NOT NULL,
    contact_id  uuid NOT NULL,
    note_type   varchar(10) NOT NULL DEFAULT 'general',
    content     text NOT NULL,
    metadata    jsonb NOT NULL DEFAULT '{}',
    step_id     uuid,
    created_by  uuid,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT note_has_known_type CHECK (note_type IN ('general', 'workflow', 'system')),
    CONSTRAINT note_contact_is_of_account FOREIGN KEY (account_id, contact_id)
        REFERENCES contacts (account_id, id) ON DELETE CASCADE
);
CREATE INDEX notes_by_contact ON notes (contact_id);

-- What users of an account see in the app; written by the in-app notification effect.
CREATE TABLE notifications (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id  uuid NOT NULL,
    user_id     uuid NOT NULL,
    effect_id   uuid,
    contact_id  uuid,
    title       text NOT NULL,
    message     text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL,
    read_at     timestamptz,
    CONSTRAINT notification_is_delivered_once UNIQUE (effect_id),
    CONSTRAINT notification_user_is_of_account FOREIGN KEY (account_id, user_id)
        REFERENCES users (account_id, id) ON DELETE CASCADE
);
CREATE INDEX notifications_by_user ON notifications (user_id, created_at);

-- Addresses that must not be written to on a channel. A row may stand for an address that has
-- not opted out: it is the row that an opt-out and a dispatch both lock before they look.
CREATE TABLE channel_addresses (
    account_id    uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    channel       varchar(20) NOT NULL,
    address       text NOT NULL,
    opted_out_at  timestamptz,
    reason        text,
    PRIMARY KEY (account_id, channel, address)
);
