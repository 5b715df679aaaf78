-- Currency rates by day, and what an opportunity is worth in its account's currency.

-- Units of a currency per euro on a day. Those without an account are reference rates of the
-- European Central Bank, seeded from a library; an account's own come before them.
CREATE TABLE currency_rates (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id  uuid REFERENCES accounts(id) ON DELETE CASCADE,
    currency    varchar(3) NOT NULL,
    valid_on    date NOT NULL,
    per_euro    numeric(24, 10) NOT NULL,
    CONSTRAINT currency_rate_is_given_once_a_day UNIQUE NULLS NOT DISTINCT (account_id, currency, valid_on),
    CONSTRAINT currency_rate_is_positive CHECK (per_euro > 0),
    CONSTRAINT currency_rate_currency_is_iso_4217 CHECK (currency ~ '^[A-Z]{3}$')
);
CREATE INDEX currency_rates_latest ON currency_rates (currency, valid_on DESC);
COMMENT ON COLUMN currency_rates.account_id IS 'NULL: of the European Central Bank, for all accounts.';

ALTER TABLE opportunities
    ADD COLUMN account_value numeric(20, 4),
    ADD COLUMN account_currency varchar(3),
    ADD COLUMN rate_valid_on date;
COMMENT ON COLUMN opportunities.account_value IS
    'The value in the account''s currency when it was last set; NULL where no rate was known.';
COMMENT ON COLUMN opportunities.rate_valid_on IS 'The older of the days of the rates that it was converted by.';

-- The rate of a currency on a day: the latest up to then, an account's own before a reference rate
-- of the same day. The euro needs none.
CREATE FUNCTION currency_rate(of_account uuid, of_currency text, on_day date)
RETURNS TABLE (per_euro numeric, valid_on date)
LANGUAGE sql STABLE ROWS 1
AS $$
    SELECT 1::numeric, on_day WHERE of_currency = 'EUR'
    UNION ALL
    (
        SELECT r.per_euro, r.valid_on
        FROM currency_rates r
        WHERE of_currency <> 'EUR' AND r.currency = of_currency AND r.valid_on <= on_day
          AND (r.account_id = of_account OR r.account_id IS NULL)
        ORDER BY r.valid_on DESC, r.account_id NULLS LAST
        LIMIT 1
    )
$$;
