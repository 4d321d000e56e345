-- What the release before migration 0004 says to Postgres about turns and conversations, to the letter: it may run beside this one.

-- create conversations:
INSERT INTO conversations (id, user_id, title, created_at, updated_at)
SELECT r.conversation, r."user", r.title, to_timestamp(r.at / 1e6), to_timestamp(r.at / 1e6)
FROM json_to_recordset($1::text::json) AS r (conversation uuid, "user" uuid, title text, at bigint)
JOIN users u ON u.id = r."user" AND u.deleted_at IS NULL
WHERE r.title IS NOT NULL FOR KEY SHARE OF u
ON CONFLICT (id) DO NOTHING

-- admit:
SELECT r.turn AS "turn!"
FROM json_to_recordset($1::text::json) AS r (turn uuid, conversation uuid, "user" uuid)
JOIN conversations c ON c.id = r.conversation AND c.user_id = r."user"
JOIN users u ON u.id = c.user_id AND u.deleted_at IS NULL
ORDER BY c.id FOR NO KEY UPDATE OF c

-- open turns:
INSERT INTO turns (id, user_id, conversation_id, model, status, owner, lease_until, created_at)
SELECT r.id, r."user", r.conversation, r.model, 'streaming', r.owner, to_timestamp(r.lease_until / 1e6),
       to_timestamp(r.at / 1e6)
FROM json_to_recordset($1::text::json)
     AS r (id uuid, "user" uuid, conversation uuid, model text, owner uuid, lease_until bigint, at bigint)

-- put messages:
INSERT INTO messages (id, conversation_id, turn_id, role, content, thinking, images, tool_calls,
                      tool_name, tool_call_id, status, created_at)
SELECT r.id, r.conversation, r.turn, r.role, r.content, r.thinking, r.images, r.tool_calls,
       r.tool_name, r.tool_call_id, r.status, to_timestamp(r.at / 1e6)
FROM json_to_recordset($1::text::json)
     AS r (id uuid, conversation uuid, turn uuid, role text, content text, thinking text, images text,
           tool_calls text, tool_name text, tool_call_id text, status text, at bigint)

-- touch conversations:
UPDATE conversations SET updated_at = greatest(updated_at, said.at)
FROM (SELECT r.conversation, to_timestamp(max(r.at) / 1e6) AS at
      FROM json_to_recordset($1::text::json) AS r (conversation uuid, at bigint) GROUP BY 1) AS said
WHERE conversations.id = said.conversation

-- checkpoint:
UPDATE messages SET content = r.content, thinking = r.thinking, tool_calls = r.tool_calls, seq = r.seq
FROM json_to_recordset($1::text::json)
     AS r (id uuid, turn uuid, seq bigint, content text, thinking text, tool_calls text)
WHERE messages.id = r.id AND messages.turn_id = r.turn AND messages.status = 'streaming'
  AND messages.seq < r.seq

-- settle answers:
UPDATE messages SET content = r.content, thinking = r.thinking, tool_calls = r.tool_calls,
                    status = r.status
FROM json_to_recordset($1::text::json)
     AS r (id uuid, turn uuid, content text, thinking text, tool_calls text, status text)
JOIN turns ON turns.id = r.turn AND turns.status IN ('streaming', 'interrupted')
WHERE messages.id = r.id AND messages.turn_id = r.turn
  AND messages.status IN ('streaming', 'interrupted')

-- settle turns:
INSERT INTO turns (id, user_id, conversation_id, model, status, failure, finish_reason, prompt_tokens,
                   completion_tokens, usage_source, queued_ms, load_ms, first_token_ms, total_ms,
                   created_at, ended_at)
SELECT r.id, r."user", c.id, r.model, r.status, r.failure, r.finish_reason, r.prompt_tokens,
       r.completion_tokens, r.usage_source, r.queued_ms, r.load_ms, r.first_token_ms, r.total_ms,
       to_timestamp(r.at / 1e6), to_timestamp(r.ended_at / 1e6)
FROM json_to_recordset($1::text::json)
     AS r (id uuid, "user" uuid, conversation uuid, model text, status text, failure text,
           finish_reason text, prompt_tokens bigint, completion_tokens bigint, usage_source text,
           queued_ms bigint, load_ms bigint, first_token_ms bigint, total_ms bigint, at bigint,
           ended_at bigint)
LEFT JOIN conversations c ON c.id = r.conversation
ORDER BY r.id
ON CONFLICT (id) DO UPDATE SET
    status = excluded.status, failure = excluded.failure, finish_reason = excluded.finish_reason,
    prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
    usage_source = excluded.usage_source, queued_ms = excluded.queued_ms, load_ms = excluded.load_ms,
    first_token_ms = excluded.first_token_ms, total_ms = excluded.total_ms, ended_at = excluded.ended_at,
    lease_until = NULL
WHERE turns.user_id = excluded.user_id AND turns.status IN ('streaming', 'interrupted')

-- renew:
UPDATE turns SET lease_until = $1 WHERE id IN
(SELECT id FROM turns WHERE owner = $2 AND status = 'streaming' ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)

-- sweep turns:
WITH swept AS (
    UPDATE turns SET status = 'interrupted', ended_at = $1 WHERE id IN
        (SELECT id FROM turns WHERE status = 'streaming' AND lease_until < $1
         ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING id),
ended AS (
    UPDATE messages SET status = 'interrupted'
    FROM swept WHERE messages.turn_id = swept.id AND messages.status = 'streaming')
SELECT count(*) AS "count!" FROM swept

-- list:
SELECT id, title, created_at, updated_at FROM conversations
WHERE user_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3

-- one:
SELECT id, title, created_at, updated_at FROM conversations WHERE id = $1 AND user_id = $2

-- messages:
SELECT m.id, m.conversation_id, m.turn_id, m.role, m.content, m.thinking, NULL::text AS images,
       m.tool_calls, m.tool_name, m.tool_call_id, m.status, m.created_at
FROM messages m JOIN conversations c ON c.id = m.conversation_id
WHERE m.conversation_id = $1 AND c.user_id = $2 AND m.id > $3 ORDER BY m.id LIMIT $4

-- newest:
WITH newest AS (
    SELECT m.id, octet_length(m.content)::bigint + coalesce(octet_length(m.thinking), 0)
                 + coalesce(octet_length(m.images), 0) + coalesce(octet_length(m.tool_calls), 0) AS bytes
    FROM messages m JOIN conversations c ON c.id = m.conversation_id
    WHERE m.conversation_id = $1 AND c.user_id = $2 ORDER BY m.id DESC LIMIT $3),
weighed AS (SELECT id, sum(bytes) OVER (ORDER BY id DESC) AS bytes_so_far FROM newest)
SELECT m.id, m.conversation_id, m.turn_id, m.role, m.content, m.thinking, m.images, m.tool_calls,
       m.tool_name, m.tool_call_id, m.status, m.created_at
FROM messages m JOIN weighed ON weighed.id = m.id
WHERE weighed.bytes_so_far <= $4::bigint ORDER BY m.id DESC
