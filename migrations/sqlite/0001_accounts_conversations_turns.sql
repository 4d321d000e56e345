-- Identities are UUIDv7 as 16 bytes, so they sort by the time of their making.
-- Times are microseconds since 1970, the resolution Postgres keeps too.

CREATE TABLE users (
    id            BLOB    NOT NULL PRIMARY KEY,
    email         TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,
    role          TEXT    NOT NULL CHECK (role IN ('user', 'admin')),
    disabled      INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    created_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One sign-in. No token is stored: the live one is a function of id and counter.
CREATE TABLE sessions (
    id         BLOB    NOT NULL PRIMARY KEY,
    user_id    BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    counter    INTEGER NOT NULL CHECK (counter >= 0),
    created_at INTEGER NOT NULL,
    rotated_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_user ON sessions (user_id);

CREATE TABLE conversations (
    id         BLOB    NOT NULL PRIMARY KEY,
    user_id    BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    title      TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX conversations_by_user ON conversations (user_id, id);

-- The usage ledger: one row per prompt, stored or not. It outlives the conversation it was said in.
CREATE TABLE turns (
    id                BLOB    NOT NULL PRIMARY KEY,
    user_id           BLOB    NOT NULL REFERENCES users (id),
    conversation_id   BLOB    REFERENCES conversations (id) ON DELETE SET NULL,
    model             TEXT    NOT NULL,
    status            TEXT    NOT NULL CHECK (status IN ('streaming', 'complete', 'interrupted', 'cancelled', 'failed')),
    failure           TEXT,
    finish_reason     TEXT,
    prompt_tokens     INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    usage_source      TEXT    CHECK (usage_source IN ('reported', 'counted', 'estimated')),
    queued_ms         INTEGER,
    load_ms           INTEGER,
    first_token_ms    INTEGER,
    total_ms          INTEGER,
    -- The instance that runs it, and until when that instance is believed to be alive.
    owner             BLOB,
    lease_until       INTEGER,
    created_at        INTEGER NOT NULL,
    ended_at          INTEGER
) STRICT;
CREATE INDEX turns_by_user ON turns (user_id, id);
CREATE INDEX turns_by_conversation ON turns (conversation_id) WHERE conversation_id IS NOT NULL;
CREATE INDEX turns_streaming ON turns (lease_until) WHERE status = 'streaming';

CREATE TABLE messages (
    id              BLOB    NOT NULL PRIMARY KEY,
    conversation_id BLOB    NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    turn_id         BLOB    NOT NULL REFERENCES turns (id),
    role            TEXT    NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),
    content         TEXT    NOT NULL,
    thinking        TEXT,
    -- JSON texts rather than a JSON type: the order of keys is the model's and is kept.
    images          TEXT,
    tool_calls      TEXT,
    tool_name       TEXT,
    tool_call_id    TEXT,
    status          TEXT    NOT NULL CHECK (status IN ('streaming', 'complete', 'interrupted', 'cancelled', 'failed')),
    -- The checkpoint that wrote the text; a lower one changes nothing.
    seq             INTEGER NOT NULL DEFAULT 0,
    created_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX messages_by_conversation ON messages (conversation_id, id);
CREATE INDEX messages_streaming ON messages (turn_id) WHERE status = 'streaming';

CREATE TABLE audit_log (
    id         BLOB    NOT NULL PRIMARY KEY,
    event      TEXT    NOT NULL,
    user_id    BLOB,
    address    TEXT,
    request_id TEXT,
    at         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_log_by_user ON audit_log (user_id, id);

CREATE TRIGGER audit_log_is_never_updated BEFORE UPDATE ON audit_log
BEGIN
    SELECT RAISE (ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_log_is_never_deleted BEFORE DELETE ON audit_log
BEGIN
    SELECT RAISE (ABORT, 'the audit log is append-only');
END;
