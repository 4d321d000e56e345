-- Corrects what was reserved in buckets, by the rule of `domain::quota`; buckets and numbers are those of `take.lua`. A
-- difference is at most 2^51.
--
-- ARGV, six for each key: permits, whether more was spent than reserved, the difference, its part, capacity, its part.
-- Reply: now, and for each key when it was full again before that, with its part.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function after(us, part, than_us, than_part)
  return us > than_us or us == than_us and part > than_part
end

local reply = {}
for i, key in ipairs(KEYS) do
  local at = 6 * (i - 1)
  local permits, is_debt = tonumber(ARGV[at + 1]), ARGV[at + 2] == '1'
  local by_us, by_part = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local deepest_us, deepest_part = now + 2 * ARGV[at + 5], 2 * ARGV[at + 6]
  if deepest_part >= permits then deepest_us, deepest_part = deepest_us + 1, deepest_part - permits end
  local us, part = now, 0
  local held_us, held_part = string.match(redis.call('GET', key) or '', '^(%d+) (%d+)$')
  if held_us and after(tonumber(held_us), tonumber(held_part), us, part) then
    us, part = tonumber(held_us), tonumber(held_part)
  end
  if after(us, part, deepest_us, deepest_part) then us, part = deepest_us, deepest_part end
  reply[2 * i - 1], reply[2 * i] = us, part

  if is_debt then
    us, part = us + by_us, part + by_part
    if part >= permits then us, part = us + 1, part - permits end
    if after(us, part, deepest_us, deepest_part) then us, part = deepest_us, deepest_part end
  else
    us, part = us - by_us, part - by_part
    if part < 0 then us, part = us - 1, part + permits end
  end
  if us > now or us == now and part > 0 then
    -- Milliseconds, rounded up.
    local wait = math.floor((us - now) / 1000) + 1
    redis.call('SET', key, string.format('%.0f %.0f', us, part), 'PX', string.format('%.0f', wait))
  else
    -- A full bucket is like none.
    redis.call('DEL', key)
  end
end
return {now, unpack(reply)}
