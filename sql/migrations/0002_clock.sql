-- One clock for every process: the database's time plus an offset that tests and
-- rehearsals set. Procrastinate keeps the real time; everything of ours asks current_instant().

CREATE TABLE clock (
    singleton  boolean PRIMARY KEY DEFAULT true,
    "offset"   interval NOT NULL DEFAULT '0',
    CONSTRAINT clock_has_one_row CHECK (singleton)
);
INSERT INTO clock DEFAULT VALUES;

-- clock_timestamp() and not now(): a batch that began before a commit must not stamp its
-- own rows as older than what it read.
CREATE FUNCTION current_instant() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL SAFE
AS $$ SELECT clock_timestamp() + c."offset" FROM clock c $$;
