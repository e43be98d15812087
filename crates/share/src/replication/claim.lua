-- Begins a session unless one of its id is live.
-- KEYS: the session. ARGV: the node, its incarnation, when it begins, how long it lives without its host, how long this
-- is true of the node.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local node, incarnation, start, timeout, life = unpack(ARGV)
if redis.call('HGET', KEYS[1], 'active') == 'true' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'active', 'true', 'incarnation', incarnation, 'startTime', start,
    'lastActivity', string.format('%.0f', now), 'listenerCount', '0', 'host', node,
    'node:' .. node, string.format('%.0f', now + life) .. ' 0 ')
redis.call('PEXPIRE', KEYS[1], timeout)
return 1
