-- People on Messenger: a page knows each of them by a number of its own (PSID).

CREATE TABLE messenger_people (
    account_id       uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    page             text NOT NULL,
    psid             text NOT NULL,
    address          text NOT NULL GENERATED ALWAYS AS (page || ':' || psid) STORED,
    contact_id       uuid,
    last_inbound_at  timestamptz,
    delivered_until  timestamptz,
    read_until       timestamptz,
    PRIMARY KEY (account_id, page, psid),
    CONSTRAINT messenger_person_has_one_address UNIQUE (account_id, address),
    CONSTRAINT messenger_person_contact_is_of_account FOREIGN KEY (account_id, contact_id)
        REFERENCES contacts (account_id, id) ON DELETE CASCADE
);
CREATE INDEX messenger_people_by_contact ON messenger_people (contact_id)
    WHERE contact_id IS NOT NULL;
COMMENT ON TABLE messenger_people IS
    'Opt-outs stand in channel_addresses, as those of all channels do, under the address here.';
COMMENT ON COLUMN messenger_people.last_inbound_at IS
    'When the person last wrote or pressed a button: 24 hours from then anything may be sent.';
COMMENT ON COLUMN messenger_people.read_until IS
    'Everything sent before has been read; delivered_until likewise. Reports may come before the answer to the call.';

CREATE INDEX effects_to_messenger_people ON effects (account_id, address)
    WHERE kind = 'messenger.message';
