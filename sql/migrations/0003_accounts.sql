-- Accounts and the people who work in them. Every row of every other table belongs to one
-- account. Where a row points at another, the account is part of the foreign key, so that a
-- reference across accounts cannot be stored. Exceptions: attempts and effects point at their
-- step by its id alone (an index more on the busiest table would be the price), and domain events
-- and logs, which outlive what they speak of, have no foreign keys but those named.

CREATE TABLE accounts (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name        text NOT NULL,
    time_zone   text NOT NULL DEFAULT 'UTC',
    currency    varchar(3) NOT NULL DEFAULT 'USD',
    country     varchar(2) NOT NULL DEFAULT 'US',
    is_test     boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT account_name_is_not_blank CHECK (btrim(name) <> ''),
    CONSTRAINT account_currency_is_iso_4217 CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT account_country_is_iso_3166 CHECK (country ~ '^[A-Z]{2}$')
);
COMMENT ON COLUMN accounts.country IS 'Phone numbers without a country code are read as numbers of this country.';

CREATE TABLE users (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id    uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    email         text NOT NULL,
    name          text NOT NULL DEFAULT '',
    role          varchar(20) NOT NULL DEFAULT 'editor',
    is_available  boolean NOT NULL DEFAULT true,
    is_service    boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT user_has_known_role CHECK (role IN ('viewer', 'editor', 'admin')),
    CONSTRAINT users_belong_to_account UNIQUE (account_id, id)
);
CREATE UNIQUE INDEX user_email_is_unique_in_account ON users (account_id, lower(email));
COMMENT ON COLUMN users.is_service IS
    'Nobody: the user that tokens of programs speak for. Is given no contacts.';

CREATE TABLE api_tokens (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id    uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    user_id       uuid NOT NULL,
    name          text NOT NULL DEFAULT '',
    token_sha256  bytea NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,
    revoked_at    timestamptz,
    CONSTRAINT api_token_is_unique UNIQUE (token_sha256),
    CONSTRAINT api_token_hash_is_sha256 CHECK (octet_length(token_sha256) = 32),
    CONSTRAINT api_token_user_is_of_account FOREIGN KEY (account_id, user_id)
        REFERENCES users (account_id, id) ON DELETE CASCADE
);

CREATE TABLE teams (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id  uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    name        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT teams_belong_to_account UNIQUE (account_id, id)
);
CREATE UNIQUE INDEX team_name_is_unique_in_account ON teams (account_id, lower(name));

CREATE TABLE team_members (
    account_id  uuid NOT NULL,
    team_id     uuid NOT NULL,
    user_id     uuid NOT NULL,
    PRIMARY KEY (team_id, user_id),
    CONSTRAINT team_member_team_is_of_account FOREIGN KEY (account_id, team_id)
        REFERENCES teams (account_id, id) ON DELETE CASCADE,
    CONSTRAINT team_member_user_is_of_account FOREIGN KEY (account_id, user_id)
        REFERENCES users (account_id, id) ON DELETE CASCADE
);

-- Who was last given a contact, per team: the row that concurrent round robins queue up at.
CREATE TABLE assignment_cursors (
    account_id    uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    team_id       uuid,
    last_user_id  uuid,
    last_least_busy_user_id uuid,
    CONSTRAINT one_cursor_per_team UNIQUE NULLS NOT DISTINCT (account_id, team_id),
    CONSTRAINT assignment_cursor_team_is_of_account FOREIGN KEY (account_id, team_id)
        REFERENCES teams (account_id, id) ON DELETE CASCADE
);
COMMENT ON COLUMN assignment_cursors.team_id IS 'NULL: the round of all users of the account.';
COMMENT ON COLUMN assignment_cursors.last_least_busy_user_id IS
    'Who was last chosen as least busy: an assignment alone makes nobody busier, so that equals take turns from here.';
