-- Definitions: a workflow is a named chain of actions with branches; activating it makes an
-- immutable version, and executions run versions, never drafts.

CREATE TABLE workflows (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id         uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    name               text NOT NULL,
    status             varchar(10) NOT NULL DEFAULT 'draft',
    trigger            jsonb,
    active_version_id  uuid,
    created_by         uuid,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    deleted_at         timestamptz,
    CONSTRAINT workflows_belong_to_account UNIQUE (account_id, id),
    CONSTRAINT workflow_has_known_status CHECK (status IN ('draft', 'active', 'paused', 'archived')),
    CONSTRAINT workflow_name_is_not_blank CHECK (btrim(name) <> ''),
    CONSTRAINT workflow_creator_is_of_account FOREIGN KEY (account_id, created_by)
        REFERENCES users (account_id, id)
);
CREATE INDEX workflows_by_account ON workflows (account_id, created_at);
COMMENT ON COLUMN workflows.trigger IS
    '{"event_type": …, "conditions": [{"field": …, "operator": …, "value": …}]}: enrols the contact of such an event.';

CREATE TABLE workflow_branches (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id   uuid NOT NULL,
    workflow_id  uuid NOT NULL,
    name         text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT branches_belong_to_workflow UNIQUE (workflow_id, id),
    CONSTRAINT branch_workflow_is_of_account FOREIGN KEY (account_id, workflow_id)
        REFERENCES workflows (account_id, id) ON DELETE CASCADE
);

CREATE TABLE workflow_actions (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id          uuid NOT NULL,
    workflow_id         uuid NOT NULL REFERENCES workflows(id) ON DELETE CASCADE,
    action_type         varchar(50) NOT NULL,
    action_config       jsonb NOT NULL DEFAULT '{}',
    position            integer NOT NULL,
    previous_action_id  uuid REFERENCES workflow_actions(id),
    next_action_id      uuid REFERENCES workflow_actions(id),
    branch_id           uuid REFERENCES workflow_branches(id),
    is_enabled          boolean DEFAULT true,
    on_failure          varchar(10) NOT NULL DEFAULT 'fail',
    fallback_action_id  uuid REFERENCES workflow_actions(id),
    key                 varchar(64),
    canvas_x            double precision,
    canvas_y            double precision,
    created_at          timestamptz DEFAULT now(),
    updated_at          timestamptz DEFAULT now(),
    created_by          uuid REFERENCES users(id),
    deleted_at          timestamptz,
    CONSTRAINT valid_action_type CHECK (
        action_type IN (
            'send_email', 'send_sms', 'send_voicemail', 'send_messenger', 'make_call',
            'create_contact', 'update_contact', 'add_tag', 'remove_tag',
            'add_to_campaign', 'remove_from_campaign', 'move_pipeline_stage',
            'assign_to_user', 'create_task', 'add_note',
            'wait_time', 'wait_until_date', 'wait_for_event',
            'send_notification', 'create_opportunity', 'webhook_call', 'custom_code',
            'grant_course_access', 'revoke_course_access'
        )
    ),
    CONSTRAINT action_position_is_not_negative CHECK (position >= 0),
    CONSTRAINT action_has_known_failure_mode CHECK (on_failure IN ('fail', 'continue')),
    CONSTRAINT action_config_is_an_object CHECK (jsonb_typeof(action_config) = 'object'),
    CONSTRAINT action_is_not_its_own_fallback CHECK (fallback_action_id <> id),
    CONSTRAINT actions_belong_to_account UNIQUE (account_id, id),
    CONSTRAINT action_workflow_is_of_account FOREIGN KEY (account_id, workflow_id)
        REFERENCES workflows (account_id, id) ON DELETE CASCADE,
    CONSTRAINT action_branch_is_of_workflow FOREIGN KEY (workflow_id, branch_id)
        REFERENCES workflow_branches (workflow_id, id)
);
CREATE INDEX idx_workflow_actions_workflow ON workflow_actions (workflow_id);
CREATE INDEX idx_workflow_actions_type ON workflow_actions (action_type);
CREATE INDEX idx_workflow_actions_position ON workflow_actions (workflow_id, position);
COMMENT ON COLUMN workflow_actions.on_failure IS
    'fail: a failure without fallback ends the execution; continue: the error is non-blocking.';
COMMENT ON COLUMN workflow_actions.key IS
    'The name under which later steps read this action''s result: {{steps.<key>.<field>}}.';

CREATE TABLE workflow_versions (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id    uuid NOT NULL,
    workflow_id   uuid NOT NULL,
    number        integer NOT NULL,
    activated_by  uuid,
    activated_at  timestamptz NOT NULL,
    CONSTRAINT version_numbers_count_up UNIQUE (workflow_id, number),
    CONSTRAINT versions_belong_to_account UNIQUE (account_id, workflow_id, id),
    CONSTRAINT version_workflow_is_of_account FOREIGN KEY (account_id, workflow_id)
        REFERENCES workflows (account_id, id) ON DELETE CASCADE
);
ALTER TABLE workflows ADD CONSTRAINT workflow_active_version_exists
    FOREIGN KEY (active_version_id) REFERENCES workflow_versions (id);

-- The actions as they stood when the version was made. Nothing updates these rows.
CREATE TABLE workflow_version_actions (
    version_id          uuid NOT NULL REFERENCES workflow_versions(id) ON DELETE CASCADE,
    action_id           uuid NOT NULL,
    account_id          uuid NOT NULL,
    action_type         varchar(50) NOT NULL,
    action_config       jsonb NOT NULL,
    key                 varchar(64),
    position            integer NOT NULL,
    branch_id           uuid,
    next_action_id      uuid,
    is_enabled          boolean NOT NULL,
    on_failure          varchar(10) NOT NULL,
    fallback_action_id  uuid,
    PRIMARY KEY (version_id, action_id),
    CONSTRAINT version_action_is_of_account FOREIGN KEY (account_id, action_id)
        REFERENCES workflow_actions (account_id, id)
);

-- Which domain events start which active workflow; one row per workflow with a trigger.
CREATE TABLE workflow_triggers (
    workflow_id  uuid PRIMARY KEY,
    account_id   uuid NOT NULL,
    event_type   varchar(50) NOT NULL,
    conditions   jsonb NOT NULL DEFAULT '[]',
    CONSTRAINT trigger_workflow_is_of_account FOREIGN KEY (account_id, workflow_id)
        REFERENCES workflows (account_id, id) ON DELETE CASCADE
);
CREATE INDEX workflow_triggers_by_event ON workflow_triggers (account_id, event_type);

CREATE TABLE campaigns (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id        uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    name              text NOT NULL,
    status            varchar(10) NOT NULL DEFAULT 'draft',
    workflow_id       uuid NOT NULL,
    enrollment_limit  integer,
    created_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT campaigns_belong_to_account UNIQUE (account_id, id),
    CONSTRAINT campaign_has_known_status CHECK (status IN ('draft', 'active', 'paused', 'ended')),
    CONSTRAINT campaign_limit_is_not_negative CHECK (enrollment_limit >= 0),
    CONSTRAINT campaign_workflow_is_of_account FOREIGN KEY (account_id, workflow_id)
        REFERENCES workflows (account_id, id)
);

CREATE TABLE audit_log (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id   uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    user_id      uuid,
    action       text NOT NULL,
    entity_type  text NOT NULL,
    entity_id    uuid NOT NULL,
    before       jsonb,
    after        jsonb,
    at           timestamptz NOT NULL
);
CREATE INDEX audit_log_by_entity ON audit_log (account_id, entity_type, entity_id, id);
CREATE INDEX audit_log_by_account ON audit_log (account_id, id);
