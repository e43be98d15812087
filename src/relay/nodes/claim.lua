-- Begins a session unless one of its id is live.
-- KEYS: the session. ARGV: the node, when it begins, how long it lives without its host, how long this is true of the node.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if redis.call('HGET', KEYS[1], 'active') == 'true' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'active', 'true', 'startTime', ARGV[2], 'lastActivity', string.format('%.0f', now),
    'listenerCount', '0', 'host', ARGV[1], 'node:' .. ARGV[1], string.format('%.0f', now + ARGV[4]) .. ' 0 ')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
