-- One question of a node: may this subject make a request, and have another stream?
-- KEYS: [1] requests, a hash; [2] streams under way, a sorted set of leases by the time they end.
-- ARGV: [1] now in ms  [2] 1 takes, 0 only looks
--       [3] `window`, `bucket` or `none`  [4] limit  [5] ms of a segment, or tokens in a period  [6] segments, or ms of it
--       [7] most streams, or -1  [8] the lease  [9] when it ends, in ms
-- Answer: [1] 0 granted, 1 too many requests, 2 too many streams  [2] requests left  [3] ms until there are more
--         [4] streams under way
local now, take, kind = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3]
local limit, a, b = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local most, lease, ends = tonumber(ARGV[7]), ARGV[8], tonumber(ARGV[9])

-- Numbers of up to 15 digits, which Lua would write with an exponent.
local function whole(number) return string.format('%.0f', number) end

local remaining, wait, current, level = limit, 0, 0, 0
if kind == 'window' then
  current = math.floor(now / a)
  local used, oldest = 0, nil
  local fields = redis.call('HGETALL', KEYS[1])
  for i = 1, #fields, 2 do
    local number, count = tonumber(fields[i]), tonumber(fields[i + 1])
    if number <= current - b or number >= current + b then
      redis.call('HDEL', KEYS[1], fields[i])
    else
      used = used + count
      if count > 0 and (not oldest or number < oldest) then oldest = number end
    end
  end
  remaining = math.max(0, limit - used)
  if oldest then wait = (oldest + b) * a - now end
elseif kind == 'bucket' then
  local state = redis.call('HMGET', KEYS[1], 'level', 'at')
  local at = tonumber(state[2]) or now
  if at - now > b then at = now end
  level = math.min(limit * b, (tonumber(state[1]) or limit * b) + math.max(0, now - at) * a)
  current = math.max(now, at)
  remaining = math.floor(level / b)
  wait = math.ceil((math.min((remaining + 1) * b, limit * b) - level) / a)
end
local under_way = 0
if most >= 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', whole(now))
  under_way = redis.call('ZCARD', KEYS[2])
end

if kind ~= 'none' and remaining < 1 then return { 1, 0, wait, under_way } end
if most >= 0 and under_way >= most then return { 2, remaining, wait, under_way } end
if not take then return { 0, remaining, wait, under_way } end

if kind == 'window' then
  redis.call('HINCRBY', KEYS[1], whole(current), 1)
  redis.call('PEXPIRE', KEYS[1], whole(a * b + a))
  if wait == 0 then wait = (current + b) * a - now end
elseif kind == 'bucket' then
  level = level - b
  redis.call('HSET', KEYS[1], 'level', whole(level), 'at', whole(current))
  redis.call('PEXPIRE', KEYS[1], whole(math.ceil((limit * b - level) / a) + b))
  wait = math.ceil(((math.floor(level / b) + 1) * b - level) / a)
end
if most >= 0 then
  redis.call('ZADD', KEYS[2], whole(ends), lease)
  redis.call('PEXPIRE', KEYS[2], whole(ends - now))
  under_way = under_way + 1
end
return { 0, math.max(0, remaining - 1), wait, under_way }
