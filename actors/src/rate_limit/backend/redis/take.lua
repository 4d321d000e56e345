-- Pays all charges, or none, by the rule of `domain::quota`. One key per bucket; its value is when it is full again, in
-- whole microseconds and parts of one, `1 / permits` each.
--
-- All numbers are whole and at most 2^53, so doubles hold them exactly: now is below 2^52 until the year 2112, a capacity is
-- at most 2^50 (35 years) and a cost one more, a bucket is full again at most two capacities from now, and `part` is below
-- `permits`.
--
-- ARGV, five for each key: permits, cost, its part, capacity, its part.
-- Reply: whether it was paid, now, and for each key when it was full again before that, with its part.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function after(us, part, than_us, than_part)
  return us > than_us or us == than_us and part > than_part
end

local paid, spent, reply = 1, {}, {}
for i, key in ipairs(KEYS) do
  local at = 5 * (i - 1)
  local permits, cost, cost_part = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local burst_us, burst_part = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local end_us, end_part = now + burst_us, burst_part
  local deepest_us, deepest_part = now + 2 * burst_us, 2 * burst_part
  if deepest_part >= permits then deepest_us, deepest_part = deepest_us + 1, deepest_part - permits end
  local us, part = now, 0
  local held_us, held_part = string.match(redis.call('GET', key) or '', '^(%d+) (%d+)$')
  if held_us and after(tonumber(held_us), tonumber(held_part), us, part) then
    us, part = tonumber(held_us), tonumber(held_part)
  end
  -- Further ahead is only possible after the clock stepped back.
  if after(us, part, deepest_us, deepest_part) then us, part = deepest_us, deepest_part end
  reply[2 * i - 1], reply[2 * i] = us, part

  us, part = us + cost, part + cost_part
  if part >= permits then us, part = us + 1, part - permits end
  if after(us, part, end_us, end_part) then paid = 0 end
  spent[i] = {us, part}
end

if paid == 1 then
  for i, key in ipairs(KEYS) do
    local us, part = spent[i][1], spent[i][2]
    -- A full bucket is like none. Milliseconds, rounded up.
    local wait = math.floor((us - now) / 1000) + 1
    if us > now or part > 0 then
      redis.call('SET', key, string.format('%.0f %.0f', us, part), 'PX', string.format('%.0f', wait))
    end
  end
end
return {paid, now, unpack(reply)}
