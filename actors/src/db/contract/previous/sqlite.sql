-- What the release before migration 0004 says to SQLite about turns and conversations, to the letter: it may run beside this one.

-- create conversations:
INSERT INTO conversations (id, user_id, title, created_at, updated_at)
SELECT unhex(value->>'conversation', '-'), unhex(value->>'user', '-'), value->>'title', value->>'at', value->>'at'
FROM jsonb_each(?) JOIN users u ON u.id = unhex(value->>'user', '-') AND u.deleted_at IS NULL
WHERE value->>'title' IS NOT NULL
ON CONFLICT (id) DO NOTHING

-- admit:
SELECT unhex(value->>'turn', '-') FROM jsonb_each(?)
JOIN conversations c ON c.id = unhex(value->>'conversation', '-') AND c.user_id = unhex(value->>'user', '-')
JOIN users u ON u.id = c.user_id AND u.deleted_at IS NULL

-- open turns:
INSERT INTO turns (id, user_id, conversation_id, model, status, owner, lease_until, created_at)
SELECT unhex(value->>'id', '-'), unhex(value->>'user', '-'), unhex(value->>'conversation', '-'),
       value->>'model', 'streaming', unhex(value->>'owner', '-'), value->>'lease_until', value->>'at'
FROM jsonb_each(?)

-- put messages:
INSERT INTO messages (id, conversation_id, turn_id, role, content, thinking, images, tool_calls,
                      tool_name, tool_call_id, status, created_at)
SELECT unhex(value->>'id', '-'), unhex(value->>'conversation', '-'), unhex(value->>'turn', '-'),
       value->>'role', value->>'content', value->>'thinking', value->>'images', value->>'tool_calls',
       value->>'tool_name', value->>'tool_call_id', value->>'status', value->>'at'
FROM jsonb_each(?)

-- touch conversations:
UPDATE conversations SET updated_at = max(updated_at, said.at)
FROM (SELECT unhex(value->>'conversation', '-') AS id, max(value->>'at') AS at FROM jsonb_each(?) GROUP BY 1) AS said
WHERE conversations.id = said.id

-- checkpoint:
UPDATE messages SET content = value->>'content', thinking = value->>'thinking',
                    tool_calls = value->>'tool_calls', seq = value->>'seq'
FROM jsonb_each(?)
WHERE messages.id = unhex(value->>'id', '-') AND turn_id = unhex(value->>'turn', '-')
  AND status = 'streaming' AND seq < value->>'seq'

-- settle answers:
UPDATE messages SET content = value->>'content', thinking = value->>'thinking',
                    tool_calls = value->>'tool_calls', status = value->>'status'
FROM jsonb_each(?) JOIN turns ON turns.id = unhex(value->>'turn', '-')
WHERE messages.id = unhex(value->>'id', '-') AND messages.turn_id = turns.id
  AND messages.status IN ('streaming', 'interrupted') AND turns.status IN ('streaming', 'interrupted')

-- settle turns:
INSERT INTO turns (id, user_id, conversation_id, model, status, failure, finish_reason, prompt_tokens,
                   completion_tokens, usage_source, queued_ms, load_ms, first_token_ms, total_ms,
                   created_at, ended_at)
SELECT unhex(value->>'id', '-'), unhex(value->>'user', '-'),
       (SELECT id FROM conversations WHERE id = unhex(value->>'conversation', '-')),
       value->>'model', value->>'status', value->>'failure', value->>'finish_reason',
       value->>'prompt_tokens', value->>'completion_tokens', value->>'usage_source', value->>'queued_ms',
       value->>'load_ms', value->>'first_token_ms', value->>'total_ms', value->>'at', value->>'ended_at'
FROM jsonb_each(?) WHERE true
ON CONFLICT (id) DO UPDATE SET
    status = excluded.status, failure = excluded.failure, finish_reason = excluded.finish_reason,
    prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
    usage_source = excluded.usage_source, queued_ms = excluded.queued_ms, load_ms = excluded.load_ms,
    first_token_ms = excluded.first_token_ms, total_ms = excluded.total_ms, ended_at = excluded.ended_at,
    lease_until = NULL
WHERE turns.user_id = excluded.user_id AND turns.status IN ('streaming', 'interrupted')

-- renew:
UPDATE turns SET lease_until = ? WHERE owner = ? AND status = 'streaming'

-- sweep messages:
UPDATE messages SET status = 'interrupted' WHERE status = 'streaming' AND turn_id IN
(SELECT id FROM turns WHERE status = 'streaming' AND lease_until < ?)

-- sweep turns:
UPDATE turns SET status = 'interrupted', ended_at = ? WHERE status = 'streaming' AND lease_until < ?

-- list:
SELECT id, title, created_at, updated_at FROM conversations
WHERE user_id = ? AND id < ? ORDER BY id DESC LIMIT ?

-- one:
SELECT id, title, created_at, updated_at FROM conversations WHERE id = ? AND user_id = ?

-- messages:
SELECT m.id, m.conversation_id, m.turn_id, m.role, m.content, m.thinking, NULL AS images, m.tool_calls,
       m.tool_name, m.tool_call_id, m.status, m.created_at
FROM messages m JOIN conversations c ON c.id = m.conversation_id
WHERE m.conversation_id = ? AND c.user_id = ? AND m.id > ? ORDER BY m.id LIMIT ?

-- newest:
WITH newest AS (
    SELECT m.id, octet_length(m.content) + coalesce(octet_length(m.thinking), 0)
                 + coalesce(octet_length(m.images), 0) + coalesce(octet_length(m.tool_calls), 0) AS bytes
    FROM messages m JOIN conversations c ON c.id = m.conversation_id
    WHERE m.conversation_id = ? AND c.user_id = ? ORDER BY m.id DESC LIMIT ?),
weighed AS (SELECT id, sum(bytes) OVER (ORDER BY id DESC) AS bytes_so_far FROM newest)
SELECT m.* FROM messages m JOIN weighed ON weighed.id = m.id
WHERE weighed.bytes_so_far <= ? ORDER BY m.id DESC
