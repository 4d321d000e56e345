-- The models that an account may ask, in place of its role's, and those of them that a key opens: at most 64 patterns of at most
-- 128 bytes, comma-separated. Null: the role's, or all of its account's; empty: none.

ALTER TABLE users ADD COLUMN models text CHECK (length(models) <= 8255);
ALTER TABLE api_keys ADD COLUMN models text CHECK (length(models) <= 8255);
