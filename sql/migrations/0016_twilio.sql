-- Texts and calls: what providers report on what left the house, and what people text back.

ALTER TABLE users ADD COLUMN phone text
    CONSTRAINT user_phone_is_e164 CHECK (phone ~ '^\+[1-9][0-9]{6,14}$');
COMMENT ON COLUMN users.phone IS 'Where make_call reaches this user, in E.164 form.';

ALTER TABLE effects
    ADD COLUMN on_unknown varchar(6)
        CONSTRAINT effect_has_known_way_with_unknown_outcomes CHECK (on_unknown IN ('repeat', 'fail')),
    ADD COLUMN provider_id text,
    ADD COLUMN delivery_status varchar(20),
    ADD COLUMN delivery_failure jsonb;
COMMENT ON COLUMN effects.on_unknown IS
    'What follows an unknown outcome, where the action says otherwise than the kind; NULL: what the kind says.';
COMMENT ON COLUMN effects.provider_id IS
    'How the provider calls it: its own word that the effect has arrived there, whoever heard it first.';
COMMENT ON COLUMN effects.delivery_status IS
    'The furthest that the provider has reported, such as delivered; the reports stand in effect_reports.';
COMMENT ON COLUMN effects.delivery_failure IS
    'Reported before the answer to the call itself was recorded: kind and code of the failed delivery.';

-- One row for each thing that a provider has reported of an effect, in whatever order it came.
CREATE TABLE effect_reports (
    effect_id    uuid NOT NULL REFERENCES effects(id) ON DELETE CASCADE,
    provider_id  text NOT NULL,
    status       varchar(20) NOT NULL,
    account_id   uuid NOT NULL,
    attempt      integer NOT NULL,
    error_code   varchar(60),
    detail       jsonb NOT NULL DEFAULT '{}',
    reported_at  timestamptz NOT NULL,
    PRIMARY KEY (effect_id, provider_id, status)
);

-- Texts that have come in, so that a webhook that is called twice acts once. Neither the number nor
-- the text stands here: those are in the event of a contact, and go with it.
CREATE TABLE inbound_texts (
    account_id      uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    provider_id     text NOT NULL,
    integration_id  uuid NOT NULL,
    wish            varchar(10),
    received_at     timestamptz NOT NULL,
    PRIMARY KEY (account_id, provider_id)
);
CREATE INDEX inbound_texts_by_time ON inbound_texts USING brin (received_at);
