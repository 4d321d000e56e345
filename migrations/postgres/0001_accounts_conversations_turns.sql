-- Identities are UUIDv7, so they sort by the time of their making.

CREATE TABLE users (
    id            uuid        PRIMARY KEY,
    email         text        NOT NULL UNIQUE,
    password_hash text        NOT NULL,
    role          text        NOT NULL CHECK (role IN ('user', 'admin')),
    disabled      boolean     NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL
);

-- One sign-in. No token is stored: the live one is a function of id and counter.
CREATE TABLE sessions (
    id         uuid        PRIMARY KEY,
    user_id    uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    counter    bigint      NOT NULL CHECK (counter >= 0),
    created_at timestamptz NOT NULL,
    rotated_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX sessions_by_user ON sessions (user_id);

CREATE TABLE conversations (
    id         uuid        PRIMARY KEY,
    user_id    uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    title      text        NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX conversations_by_user ON conversations (user_id, id);

-- The usage ledger: one row per prompt, stored or not. It outlives the conversation it was said in.
CREATE TABLE turns (
    id                uuid        PRIMARY KEY,
    user_id           uuid        NOT NULL REFERENCES users (id),
    conversation_id   uuid        REFERENCES conversations (id) ON DELETE SET NULL,
    model             text        NOT NULL,
    status            text        NOT NULL CHECK (status IN ('streaming', 'complete', 'interrupted', 'cancelled', 'failed')),
    failure           text,
    finish_reason     text,
    prompt_tokens     bigint      NOT NULL DEFAULT 0,
    completion_tokens bigint      NOT NULL DEFAULT 0,
    usage_source      text        CHECK (usage_source IN ('reported', 'counted', 'estimated')),
    queued_ms         bigint,
    load_ms           bigint,
    first_token_ms    bigint,
    total_ms          bigint,
    -- The instance that runs it, and until when that instance is believed to be alive.
    owner             uuid,
    lease_until       timestamptz,
    created_at        timestamptz NOT NULL,
    ended_at          timestamptz
);
CREATE INDEX turns_by_user ON turns (user_id, id);
CREATE INDEX turns_by_conversation ON turns (conversation_id) WHERE conversation_id IS NOT NULL;
CREATE INDEX turns_streaming ON turns (lease_until) WHERE status = 'streaming';

CREATE TABLE messages (
    id              uuid        PRIMARY KEY,
    conversation_id uuid        NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    turn_id         uuid        NOT NULL REFERENCES turns (id),
    role            text        NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),
    content         text        NOT NULL,
    thinking        text,
    -- JSON texts rather than jsonb: the order of keys is the model's and is kept.
    images          text,
    tool_calls      text,
    tool_name       text,
    tool_call_id    text,
    status          text        NOT NULL CHECK (status IN ('streaming', 'complete', 'interrupted', 'cancelled', 'failed')),
    -- The checkpoint that wrote the text; a lower one changes nothing.
    seq             bigint      NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL
);
CREATE INDEX messages_by_conversation ON messages (conversation_id, id);
CREATE INDEX messages_streaming ON messages (turn_id) WHERE status = 'streaming';

CREATE TABLE audit_log (
    id         uuid        PRIMARY KEY,
    event      text        NOT NULL,
    user_id    uuid,
    address    text,
    request_id text,
    at         timestamptz NOT NULL
);
CREATE INDEX audit_log_by_user ON audit_log (user_id, id);

CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;
CREATE TRIGGER audit_log_is_never_changed BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_log_is_never_truncated BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
