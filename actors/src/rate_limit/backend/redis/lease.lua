-- Grants a turn a lease if fewer than so many others of its user live. One sorted set per user: turns by the time at which
-- their leases run out, in milliseconds.
--
-- ARGV: turn, cap, lifetime in milliseconds.
-- Reply: whether it was granted.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local key, turn, cap, lifetime = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now))
-- Further ahead is only possible after the clock stepped back; turns that run are renewed soon.
redis.call('ZREMRANGEBYSCORE', key, string.format('(%.0f', now + lifetime), '+inf')
redis.call('ZREM', key, turn)
if redis.call('ZCARD', key) >= cap then return 0 end
redis.call('ZADD', key, string.format('%.0f', now + lifetime), turn)
redis.call('PEXPIRE', key, string.format('%.0f', lifetime))
return 1
