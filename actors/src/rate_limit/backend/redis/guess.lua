-- Judges a look at a password, and counts it in advance, by the rule of `domain::guessing`. One hash per account: `all`,
-- `others` and one field per network, each a number of failures and the time of the last one in microseconds.
--
-- ARGV: network, whether the account is known from it, and the rule: free, first wait, longest wait, besieged, memory
-- (waits in microseconds), networks.
-- Reply: microseconds to wait, whether only because of the account, now.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local key, network, is_known = KEYS[1], ARGV[1], ARGV[2] == '1'
local free, first, longest = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local besieged, memory, room = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])

local function passed(since)
  return math.max(now - since, 0)
end

local function left(wait, since)
  return math.max(wait - passed(since), 0)
end

local function penalty(failures)
  if failures < free then return 0 end
  return math.min(first * 2 ^ (failures - free), longest)
end

local none = {count = 0, last = 0}
local held, networks, rested = {}, 0, nil
local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  local field = fields[i]
  local count, last = string.match(fields[i + 1], '^(%d+) (%d+)$')
  if passed(tonumber(last)) >= memory then
    redis.call('HDEL', key, field)
  else
    held[field] = {count = tonumber(count), last = tonumber(last)}
    if field ~= 'all' and field ~= 'others' then
      networks = networks + 1
      if not rested or held[field].last < held[rested].last then rested = field end
    end
  end
end

local has_place = held[network] or networks < room or is_known
local place = has_place and network or 'others'
local all, own = held.all or none, held[place] or none
local by_network, by_account = left(penalty(own.count), own.last), 0
if not is_known then
  if all.count < besieged then
    by_account = left(penalty(all.count), all.last)
  elseif own.count > 0 then
    by_account = left(longest, own.last)
  end
end
if by_network > 0 or by_account > 0 then
  return {math.max(by_network, by_account), by_network == 0 and 1 or 0, now}
end

if place == network and not held[network] and networks >= room then
  redis.call('HDEL', key, rested)
end
redis.call('HSET', key,
  'all', string.format('%.0f %.0f', all.count + 1, now),
  place, string.format('%.0f %.0f', own.count + 1, now))
redis.call('PEXPIRE', key, string.format('%.0f', math.floor(memory / 1000) + 1))
return {0, 0, now}
