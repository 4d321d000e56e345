-- Takes failures back that were counted in advance, by the rule of `domain::guessing`, from the hash of `guess.lua`.
--
-- ARGV: network, `right` or `undone`.
local key, network, ending = KEYS[1], ARGV[1], ARGV[2]

local function read(field)
  local count, last = string.match(redis.call('HGET', key, field) or '', '^(%d+) (%d+)$')
  return tonumber(count or 0), last
end

local place = redis.call('HEXISTS', key, network) == 1 and network or 'others'
local own, own_last = read(place)
if own == 0 then return 0 end
local taken = place == network and ending == 'right' and own or 1
if place == network and taken == own then
  redis.call('HDEL', key, place)
else
  redis.call('HSET', key, place, string.format('%.0f %s', own - taken, own_last))
end
local all, all_last = read('all')
if all_last then
  redis.call('HSET', key, 'all', string.format('%.0f %s', math.max(all - taken, 0), all_last))
end
return taken
