-- Limits of one account, in place of the service's own, and more of them for one key, beside its account's. Null sets none.

ALTER TABLE users ADD COLUMN requests_per_minute INTEGER CHECK (requests_per_minute > 0);
ALTER TABLE users ADD COLUMN tokens_per_minute INTEGER CHECK (tokens_per_minute > 0);
ALTER TABLE users ADD COLUMN streams INTEGER CHECK (streams > 0);
ALTER TABLE users ADD COLUMN priority TEXT CHECK (priority IN ('interactive', 'batch'));

ALTER TABLE api_keys ADD COLUMN tokens_per_minute INTEGER CHECK (tokens_per_minute > 0);
ALTER TABLE api_keys ADD COLUMN streams INTEGER CHECK (streams > 0);
ALTER TABLE api_keys ADD COLUMN priority TEXT CHECK (priority IN ('interactive', 'batch'));
