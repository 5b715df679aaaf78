-- Courses: what contacts are given access to, for a time or for good, lesson by lesson.

CREATE TABLE courses (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id  uuid NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    name        varchar(200) NOT NULL,
    regrant     varchar(10) NOT NULL DEFAULT 'extend',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz,
    CONSTRAINT courses_belong_to_account UNIQUE (account_id, id),
    CONSTRAINT course_regrant_is_known CHECK (regrant IN ('extend', 'leave'))
);
COMMENT ON COLUMN courses.regrant IS
    'What becomes of an access that is granted again: it is made longer, or left as it is.';

CREATE TABLE lessons (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id       uuid NOT NULL,
    course_id        uuid NOT NULL,
    name             varchar(200) NOT NULL,
    position         integer NOT NULL DEFAULT 0,
    drip_after_days  integer NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    deleted_at       timestamptz,
    CONSTRAINT lessons_belong_to_course UNIQUE (account_id, course_id, id),
    CONSTRAINT lesson_drips_after_its_grant CHECK (drip_after_days BETWEEN 0 AND 36500),
    CONSTRAINT lesson_course_is_of_account FOREIGN KEY (account_id, course_id)
        REFERENCES courses (account_id, id) ON DELETE CASCADE
);
COMMENT ON COLUMN lessons.drip_after_days IS 'Days of 24 hours from the grant to the lesson.';

CREATE TABLE course_grants (
    id            uuid PRIMARY KEY,
    account_id    uuid NOT NULL,
    course_id     uuid NOT NULL,
    contact_id    uuid NOT NULL,
    status        varchar(10) NOT NULL DEFAULT 'active',
    access_level  varchar(10) NOT NULL,
    drip          boolean NOT NULL,
    granted_at    timestamptz NOT NULL,
    expires_at    timestamptz,
    ended_at      timestamptz,
    reason        text,
    step_id       uuid,
    CONSTRAINT course_grant_status_is_known CHECK (status IN ('active', 'expired', 'revoked')),
    CONSTRAINT course_grant_level_is_known CHECK (access_level IN ('full', 'preview', 'limited')),
    CONSTRAINT course_grant_ends_once CHECK ((status = 'active') = (ended_at IS NULL)),
    CONSTRAINT course_grant_course_is_of_account FOREIGN KEY (account_id, course_id)
        REFERENCES courses (account_id, id) ON DELETE CASCADE,
    CONSTRAINT course_grant_contact_is_of_account FOREIGN KEY (account_id, contact_id)
        REFERENCES contacts (account_id, id) ON DELETE CASCADE
);
COMMENT ON COLUMN course_grants.step_id IS 'The step that granted it first.';
CREATE UNIQUE INDEX course_is_granted_once_at_a_time ON course_grants (contact_id, course_id)
    WHERE status = 'active';
CREATE INDEX course_grants_in_order ON course_grants (course_id, granted_at, id);
CREATE INDEX course_grants_by_contact ON course_grants (contact_id, granted_at, id);

-- Lessons that were opened to contacts; it outlives a grant if the progress is kept.
CREATE TABLE lesson_progress (
    account_id    uuid NOT NULL,
    course_id     uuid NOT NULL,
    lesson_id     uuid NOT NULL,
    contact_id    uuid NOT NULL,
    opened_at     timestamptz NOT NULL,
    completed_at  timestamptz,
    PRIMARY KEY (contact_id, lesson_id),
    CONSTRAINT lesson_progress_lesson_is_of_course FOREIGN KEY (account_id, course_id, lesson_id)
        REFERENCES lessons (account_id, course_id, id) ON DELETE CASCADE,
    CONSTRAINT lesson_progress_contact_is_of_account FOREIGN KEY (account_id, contact_id)
        REFERENCES contacts (account_id, id) ON DELETE CASCADE
);
CREATE INDEX lesson_progress_by_course ON lesson_progress (course_id, contact_id);
CREATE INDEX lessons_of_course ON lessons (course_id, position, id) WHERE deleted_at IS NULL;
CREATE INDEX courses_of_account ON courses (account_id, lower(name), id) WHERE deleted_at IS NULL;
