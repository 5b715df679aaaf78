-- What an opportunity is worth in its account's currency, wherever it is written; lessons that are
-- completed.

-- A value in the account's currency by the latest rates of a day; no value where no rate is known.
CREATE FUNCTION account_worth(of_account uuid, worth numeric, in_currency text, on_day date)
RETURNS TABLE (account_value numeric, account_currency varchar, rate_valid_on date)
LANGUAGE sql STABLE ROWS 1
AS $$
    SELECT v.account_value, CASE WHEN v.account_value IS NOT NULL THEN a.currency END,
        CASE WHEN v.account_value IS NOT NULL AND in_currency <> a.currency
            THEN least(f.valid_on, t.valid_on) END
    FROM accounts a
    LEFT JOIN LATERAL currency_rate(of_account, in_currency, on_day) f ON in_currency <> a.currency
    LEFT JOIN LATERAL currency_rate(of_account, a.currency, on_day) t ON in_currency <> a.currency
    CROSS JOIN LATERAL (
        SELECT CASE WHEN in_currency = a.currency THEN worth
            ELSE round(worth / f.per_euro * t.per_euro, 4) END AS account_value
    ) v
    WHERE a.id = of_account
$$;

-- The largest value of a currency that is worth little still fits.
ALTER TABLE opportunities ALTER COLUMN account_value TYPE numeric;
