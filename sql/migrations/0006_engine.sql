-- The engine's own tables: executions, their steps and attempts, the ledger of effects, lanes,
-- timers, domain events, limits and breakers. The rows are the truth; a ticket in
-- procrastinate_jobs is only a hint to look here.

-- The ready work of one (family, account, workflow, integration). Holding a lane holds
-- whatever stands in it, however much that is, by one row.
CREATE TABLE lanes (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id      uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    family          varchar(20) NOT NULL,
    workflow_id     uuid,
    integration_id  uuid,
    is_paused       boolean NOT NULL DEFAULT false,
    held_until      timestamptz,
    held_reason     varchar(40),
    CONSTRAINT one_lane_per_kind_of_work
        UNIQUE NULLS NOT DISTINCT (family, account_id, workflow_id, integration_id),
    CONSTRAINT a_held_lane_says_why CHECK (held_until IS NULL OR held_reason IS NOT NULL),
    CONSTRAINT lane_workflow_is_of_account FOREIGN KEY (account_id, workflow_id)
        REFERENCES workflows (account_id, id) ON DELETE CASCADE
);
CREATE INDEX lanes_by_workflow ON lanes (workflow_id);
CREATE INDEX lanes_by_integration ON lanes (integration_id) WHERE integration_id IS NOT NULL;
CREATE INDEX lanes_by_held_until ON lanes (held_until) WHERE held_until IS NOT NULL;
COMMENT ON COLUMN lanes.workflow_id IS 'NULL: effects that belong to no workflow, such as mails sent by a timer.';

CREATE TABLE workflow_executions (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id         uuid NOT NULL,
    workflow_id        uuid NOT NULL,
    version_id         uuid NOT NULL,
    contact_id         uuid NOT NULL,
    status             varchar(10) NOT NULL DEFAULT 'running',
    entry_key          text NOT NULL DEFAULT '',
    priority           smallint NOT NULL DEFAULT 0,
    context            jsonb NOT NULL DEFAULT '{}',
    event_depth        smallint NOT NULL DEFAULT 0,
    event_id           bigint,
    end_reason         text,
    started_at         timestamptz NOT NULL,
    completed_at       timestamptz,
    CONSTRAINT execution_has_known_status CHECK (
        status IN ('running', 'paused', 'completed', 'failed', 'cancelled')
    ),
    CONSTRAINT execution_priority_is_in_range CHECK (priority BETWEEN -100 AND 100),
    CONSTRAINT executions_belong_to_account UNIQUE (account_id, id),
    CONSTRAINT execution_version_is_of_account FOREIGN KEY (account_id, workflow_id, version_id)
        REFERENCES workflow_versions (account_id, workflow_id, id),
    CONSTRAINT execution_contact_is_of_account FOREIGN KEY (account_id, contact_id)
        REFERENCES contacts (account_id, id)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
-- The re-entry rule: one live run of a contact in a workflow unless an entry_key says otherwise.
CREATE UNIQUE INDEX one_live_execution_per_contact
    ON workflow_executions (workflow_id, contact_id, entry_key) WHERE status IN ('running', 'paused');
CREATE INDEX workflow_executions_by_contact ON workflow_executions (contact_id);
CREATE INDEX workflow_executions_by_workflow ON workflow_executions (workflow_id, started_at);
CREATE INDEX finished_workflow_executions ON workflow_executions (completed_at)
    WHERE status IN ('completed', 'failed', 'cancelled');
COMMENT ON COLUMN workflow_executions.priority IS 'Higher is sooner, within a lane.';
COMMENT ON COLUMN workflow_executions.event_depth IS
    'How many workflows, each started by an event of the one before, led here: the loop guard counts it.';

CREATE TABLE workflow_action_executions (
    id                     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id             uuid NOT NULL,
    workflow_execution_id  uuid NOT NULL,
    action_id              uuid NOT NULL,
    contact_id             uuid NOT NULL,
    status                 varchar(20) NOT NULL DEFAULT 'pending',
    started_at             timestamptz,
    completed_at           timestamptz,
    execution_data         jsonb DEFAULT '{}',
    result_data            jsonb DEFAULT '{}',
    error_message          text,
    retry_count            integer DEFAULT 0,
    scheduled_at           timestamptz,
    family                 varchar(20) NOT NULL,
    lane_id                bigint NOT NULL,
    phase                  varchar(10) NOT NULL DEFAULT 'perform',
    hold                   varchar(20),
    priority               smallint NOT NULL DEFAULT 0,
    sequence               integer NOT NULL DEFAULT 0,
    attempt                integer NOT NULL DEFAULT 0,
    ready_at               timestamptz,
    error_code             varchar(60),
    skip_reason            varchar(60),
    waiting_for            varchar(50),
    waiting_action_id      uuid,
    event_id               bigint,
    return_action_id       uuid,
    worker_id              uuid,
    -- The specification's references, with the account in them.
    CONSTRAINT step_execution_is_of_account FOREIGN KEY (account_id, workflow_execution_id)
        REFERENCES workflow_executions (account_id, id),
    CONSTRAINT step_action_is_of_account FOREIGN KEY (account_id, action_id)
        REFERENCES workflow_actions (account_id, id),
    CONSTRAINT step_contact_is_of_account FOREIGN KEY (account_id, contact_id)
        REFERENCES contacts (account_id, id),
    CONSTRAINT valid_execution_status CHECK (
        status IN ('pending', 'scheduled', 'running', 'completed', 'failed', 'skipped', 'waiting')
    ),
    CONSTRAINT step_has_known_phase CHECK (phase IN ('perform', 'resume', 'settle')),
    CONSTRAINT step_has_known_hold CHECK (hold IN ('parked', 'isolated', 'parked_isolated')),
    CONSTRAINT a_scheduled_step_has_its_instant CHECK (status <> 'scheduled' OR scheduled_at IS NOT NULL),
    CONSTRAINT a_waiting_step_says_for_what CHECK (status <> 'waiting' OR waiting_for IS NOT NULL),
    CONSTRAINT a_failed_step_says_why CHECK (status <> 'failed' OR error_code IS NOT NULL),
    CONSTRAINT a_skipped_step_says_why CHECK (status <> 'skipped' OR skip_reason IS NOT NULL)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);
CREATE INDEX idx_action_executions_workflow ON workflow_action_executions (workflow_execution_id);
CREATE INDEX idx_action_executions_contact ON workflow_action_executions (contact_id);
CREATE INDEX idx_action_executions_status ON workflow_action_executions (status);
CREATE INDEX idx_action_executions_scheduled ON workflow_action_executions (scheduled_at)
    WHERE status = 'scheduled';
CREATE INDEX action_executions_ready ON workflow_action_executions (family, lane_id, priority DESC, id)
    WHERE status = 'pending' AND hold IS NULL;
CREATE INDEX action_executions_isolated ON workflow_action_executions (family, id)
    WHERE status = 'pending' AND hold = 'isolated';
CREATE INDEX action_executions_waiting ON workflow_action_executions (contact_id, waiting_for)
    WHERE status = 'waiting';
CREATE INDEX action_executions_timeout ON workflow_action_executions (scheduled_at)
    WHERE status = 'waiting' AND scheduled_at IS NOT NULL;
CREATE INDEX action_executions_in_hand ON workflow_action_executions (worker_id)
    WHERE status = 'running' AND worker_id IS NOT NULL;
CREATE INDEX action_executions_with_effects ON workflow_action_executions (id)
    WHERE status = 'running' AND worker_id IS NULL;
CREATE INDEX action_executions_failed ON workflow_action_executions (completed_at)
    WHERE status = 'failed';
COMMENT ON COLUMN workflow_action_executions.phase IS
    'What a claim does with it: perform (first or again), resume (its wait is over), settle (its effects have ended).';
COMMENT ON COLUMN workflow_action_executions.hold IS
    'parked: its execution is paused; isolated: was in hand when a worker died, is claimed alone; parked_isolated: both.';
COMMENT ON COLUMN workflow_action_executions.event_id IS
    'The domain event that ended its wait; NULL after a time-out. Whoever sets pending first has won.';
COMMENT ON COLUMN workflow_action_executions.return_action_id IS
    'Where the execution goes on when the branch that a fallback entered has ended.';
COMMENT ON COLUMN workflow_action_executions.result_data IS
    'What the action gave; later steps read it as {{steps.<key>.…}}.';

-- One row per try of a step (requirement R7.3). Type and configuration stand, immutable, in
-- workflow_version_actions; the view action_log joins them.
CREATE TABLE workflow_action_attempts (
    step_id        uuid NOT NULL,
    attempt        integer NOT NULL,
    account_id     uuid NOT NULL,
    contact_id     uuid NOT NULL,
    action_id      uuid NOT NULL,
    version_id     uuid NOT NULL,
    worker_id      uuid,
    started_at     timestamptz NOT NULL,
    finished_at    timestamptz,
    outcome        varchar(20) NOT NULL,
    error_kind     varchar(30),
    error_code     varchar(60),
    error_message  text,
    PRIMARY KEY (step_id, attempt),
    CONSTRAINT attempt_step_exists FOREIGN KEY (step_id)
        REFERENCES workflow_action_executions (id) ON DELETE CASCADE,
    CONSTRAINT attempt_has_known_outcome CHECK (
        outcome IN ('started', 'completed', 'failed', 'retried', 'skipped', 'slept', 'waited', 'dispatched', 'lost')
    )
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);

CREATE TABLE integrations (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id          uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    kind                varchar(20) NOT NULL,
    name                text NOT NULL,
    rate_per_second     double precision,
    burst               integer NOT NULL DEFAULT 1,
    max_concurrent      integer,
    breaker_failures    integer NOT NULL DEFAULT 5,
    breaker_window_seconds integer NOT NULL DEFAULT 60,
    breaker_open_seconds   integer NOT NULL DEFAULT 30,
    created_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT integrations_belong_to_account UNIQUE (account_id, id),
    CONSTRAINT integration_rate_is_sane CHECK (rate_per_second > 0 AND rate_per_second <= 100000),
    CONSTRAINT integration_burst_is_positive CHECK (burst > 0),
    CONSTRAINT integration_concurrency_is_positive CHECK (max_concurrent > 0),
    CONSTRAINT integration_breaker_is_sane
        CHECK (breaker_failures > 0 AND breaker_window_seconds > 0 AND breaker_open_seconds > 0)
);
COMMENT ON COLUMN integrations.rate_per_second IS 'NULL: not limited.';

-- GCRA: the theoretical arrival time of the next call, one row per integration. It is also the
-- row that all claimers of the integration lock, so that counts of running calls are exact.
CREATE TABLE rate_limits (
    integration_id  uuid PRIMARY KEY REFERENCES integrations(id) ON DELETE CASCADE,
    tat             timestamptz NOT NULL
);

CREATE TABLE circuit_breakers (
    integration_id  uuid PRIMARY KEY REFERENCES integrations(id) ON DELETE CASCADE,
    account_id      uuid NOT NULL,
    state           varchar(10) NOT NULL DEFAULT 'closed',
    failures        integer NOT NULL DEFAULT 0,
    window_began_at timestamptz NOT NULL,
    open_until      timestamptz,
    probe_effect_id uuid,
    probe_expires_at timestamptz,
    CONSTRAINT breaker_has_known_state CHECK (state IN ('closed', 'open', 'half_open')),
    CONSTRAINT an_open_breaker_says_until_when CHECK (state <> 'open' OR open_until IS NOT NULL)
);

-- One row per thing that leaves the house.
CREATE TABLE effects (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id        uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    step_id           uuid REFERENCES workflow_action_executions(id),
    execution_id      uuid,
    workflow_id       uuid,
    contact_id        uuid,
    kind              varchar(40) NOT NULL,
    family            varchar(20) NOT NULL,
    lane_id           bigint NOT NULL,
    integration_id    uuid,
    gates_step        boolean NOT NULL DEFAULT true,
    status            varchar(12) NOT NULL DEFAULT 'pending',
    priority          smallint NOT NULL DEFAULT 0,
    hold              varchar(10),
    attempt           integer NOT NULL DEFAULT 0,
    retries           jsonb NOT NULL DEFAULT '{}',
    losses            integer NOT NULL DEFAULT 0,
    idempotency_key   text NOT NULL,
    channel           varchar(20),
    address           text,
    request           jsonb NOT NULL DEFAULT '{}',
    result            jsonb,
    decision          jsonb,
    error_code        varchar(60),
    error_message     text,
    worker_id         uuid,
    scheduled_at      timestamptz,
    created_at        timestamptz NOT NULL,
    ready_at          timestamptz,
    dispatched_at     timestamptz,
    completed_at      timestamptz,
    CONSTRAINT effect_has_known_status CHECK (
        status IN ('pending', 'scheduled', 'claimed', 'dispatched',
                   'succeeded', 'failed', 'unknown', 'suppressed', 'cancelled')
    ),
    CONSTRAINT effect_execution_is_of_account FOREIGN KEY (account_id, execution_id)
        REFERENCES workflow_executions (account_id, id),
    CONSTRAINT effect_contact_is_of_account FOREIGN KEY (account_id, contact_id)
        REFERENCES contacts (account_id, id),
    CONSTRAINT effect_integration_is_of_account FOREIGN KEY (account_id, integration_id)
        REFERENCES integrations (account_id, id),
    CONSTRAINT effect_has_known_hold CHECK (hold IN ('parked', 'isolated')),
    CONSTRAINT effect_key_is_used_once UNIQUE (account_id, idempotency_key),
    CONSTRAINT a_claimed_effect_is_in_somebodys_hand CHECK (
        status NOT IN ('claimed', 'dispatched') OR worker_id IS NOT NULL
    ),
    CONSTRAINT a_scheduled_effect_has_its_instant CHECK (status <> 'scheduled' OR scheduled_at IS NOT NULL)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX effects_ready ON effects (family, lane_id, priority DESC, id)
    WHERE status = 'pending' AND hold IS NULL;
CREATE INDEX effects_isolated ON effects (family, id) WHERE status = 'pending' AND hold = 'isolated';
CREATE INDEX effects_scheduled ON effects (scheduled_at) WHERE status = 'scheduled';
CREATE INDEX effects_in_hand ON effects (worker_id) WHERE status IN ('claimed', 'dispatched');
CREATE INDEX effects_in_hand_by_integration ON effects (integration_id)
    WHERE status IN ('claimed', 'dispatched') AND integration_id IS NOT NULL;
CREATE INDEX effects_by_step ON effects (step_id);
CREATE INDEX effects_by_contact ON effects (contact_id);
CREATE INDEX effects_by_execution ON effects (execution_id);
CREATE INDEX undispatched_effects_by_address ON effects (account_id, channel, address)
    WHERE status IN ('pending', 'scheduled', 'claimed') AND address IS NOT NULL;
COMMENT ON COLUMN effects.gates_step IS
    'true: the step ends when this has ended; false: a notice beside it, such as an assignment notice.';
COMMENT ON COLUMN effects.idempotency_key IS
    'The same on every attempt; given to the other side where it takes one.';
COMMENT ON COLUMN effects.losses IS 'How often a worker died with it in hand; bounded, so that poison ends.';

CREATE TABLE effect_attempts (
    effect_id      uuid NOT NULL REFERENCES effects(id) ON DELETE CASCADE,
    attempt        integer NOT NULL,
    account_id     uuid NOT NULL,
    worker_id      uuid,
    started_at     timestamptz NOT NULL,
    finished_at    timestamptz,
    outcome        varchar(20) NOT NULL,
    is_late        boolean NOT NULL DEFAULT false,
    error_kind     varchar(30),
    error_code     varchar(60),
    error_message  text,
    result         jsonb,
    CONSTRAINT effect_attempt_has_known_outcome CHECK (
        outcome IN ('succeeded', 'failed', 'retried', 'unknown', 'suppressed', 'lost')
    )
);
-- A late result stands beside the row of the attempt that was declared lost or unknown.
CREATE UNIQUE INDEX effect_attempt_is_logged_once ON effect_attempts (effect_id, attempt, is_late);

-- Workers that are alive. Whatever a worker has in hand is leased through its row here: one
-- heartbeat renews it all. A worker whose lease has run out is dead: the sweep takes the row away
-- together with all that it had in hand, and should the worker wake up, it finds itself fenced off.
CREATE TABLE workers (
    id            uuid PRIMARY KEY,
    host          text NOT NULL,
    pid           integer NOT NULL,
    families      text[] NOT NULL,
    started_at    timestamptz NOT NULL,
    heartbeat_at  timestamptz NOT NULL,
    lease_expires_at timestamptz NOT NULL,
    stopping_at   timestamptz
);

-- What each worker has in hand inside a transaction that is not committed yet, written on
-- another connection before the work begins and deleted by the work's own commit. What a dead
-- worker leaves here is claimed alone the next time, so that poison cannot take others along.
CREATE TABLE batches_in_hand (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    worker_id  uuid NOT NULL,
    step_ids   uuid[] NOT NULL,
    taken_at   timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- Future instants that belong to no execution.
CREATE TABLE timers (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id  uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    kind        varchar(40) NOT NULL,
    due_at      timestamptz NOT NULL,
    dedupe_key  text,
    payload     jsonb NOT NULL DEFAULT '{}',
    failures    integer NOT NULL DEFAULT 0,
    CONSTRAINT timer_is_set_once UNIQUE (account_id, kind, dedupe_key)
);
CREATE INDEX timers_by_due ON timers (due_at);

CREATE TABLE domain_events (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id     uuid NOT NULL,
    event_type     varchar(50) NOT NULL,
    contact_id     uuid,
    payload        jsonb NOT NULL DEFAULT '{}',
    action_id      uuid,
    execution_id   uuid,
    event_depth    smallint NOT NULL DEFAULT 0,
    dedupe_key     text,
    occurred_at    timestamptz NOT NULL,
    dispatched_at  timestamptz,
    CONSTRAINT event_type_is_a_name CHECK (event_type ~ '^[a-z][a-z0-9_]*$')
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
CREATE INDEX undispatched_domain_events ON domain_events (id) WHERE dispatched_at IS NULL;
-- For retention: events are stored in the order of time.
CREATE INDEX domain_events_by_time ON domain_events USING brin (occurred_at);
CREATE INDEX domain_events_by_contact ON domain_events (contact_id, event_type, occurred_at);
CREATE UNIQUE INDEX domain_event_is_taken_in_once
    ON domain_events (account_id, dedupe_key) WHERE dedupe_key IS NOT NULL;
COMMENT ON COLUMN domain_events.dispatched_at IS
    'When workflows started by it were enrolled; set at once where no active workflow listens.';

CREATE TABLE campaign_enrollments (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id     uuid NOT NULL,
    campaign_id    uuid NOT NULL,
    contact_id     uuid NOT NULL,
    execution_id   uuid,
    status         varchar(10) NOT NULL DEFAULT 'active',
    enrolled_at    timestamptz NOT NULL,
    ended_at       timestamptz,
    removal_reason text,
    step_id        uuid,
    CONSTRAINT enrollment_has_known_status CHECK (status IN ('active', 'completed', 'removed')),
    CONSTRAINT enrollment_execution_is_of_account FOREIGN KEY (account_id, execution_id)
        REFERENCES workflow_executions (account_id, id) ON DELETE SET NULL (execution_id),
    CONSTRAINT enrollment_campaign_is_of_account FOREIGN KEY (account_id, campaign_id)
        REFERENCES campaigns (account_id, id),
    CONSTRAINT enrollment_contact_is_of_account FOREIGN KEY (account_id, contact_id)
        REFERENCES contacts (account_id, id) ON DELETE CASCADE
);
CREATE INDEX campaign_enrollments_by_campaign ON campaign_enrollments (campaign_id, contact_id);
CREATE INDEX campaign_enrollments_by_execution ON campaign_enrollments (execution_id);
-- A refused or skipped enrolment of a contact, with the reason, for those who ask why.
CREATE TABLE enrollment_refusals (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id   uuid NOT NULL,
    workflow_id  uuid NOT NULL,
    contact_id   uuid NOT NULL,
    event_id     bigint,
    reason       varchar(60) NOT NULL,
    refused_at   timestamptz NOT NULL,
    CONSTRAINT refusal_workflow_is_of_account FOREIGN KEY (account_id, workflow_id)
        REFERENCES workflows (account_id, id) ON DELETE CASCADE,
    CONSTRAINT refusal_contact_is_of_account FOREIGN KEY (account_id, contact_id)
        REFERENCES contacts (account_id, id) ON DELETE CASCADE
);
CREATE INDEX enrollment_refusals_by_contact ON enrollment_refusals (contact_id, refused_at);
