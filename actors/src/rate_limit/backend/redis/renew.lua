-- Lets leases of one user live on, in the sorted set of `lease.lua`, whether they are known or were forgotten.
--
-- ARGV: lifetime in milliseconds, turns.
-- Reply: how many were forgotten.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local key, lifetime = KEYS[1], tonumber(ARGV[1])

redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now))
local forgotten = 0
for i = 2, #ARGV do
  forgotten = forgotten + redis.call('ZADD', key, string.format('%.0f', now + lifetime), ARGV[i])
end
redis.call('PEXPIRE', key, string.format('%.0f', lifetime))
return forgotten
