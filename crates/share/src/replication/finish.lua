-- Ends a session; what it was stays for a while.
-- KEYS: the session. ARGV: the node, its incarnation, when it began, why it ends, its bytes at this node, how long it lives
-- without its host, how long its end is told. Answers whether it has ended by this.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local node, incarnation, start, reason, bytes, timeout, life = unpack(ARGV)
local active, known, last = unpack(redis.call('HMGET', KEYS[1], 'active', 'incarnation', 'lastActivity'))
if active and known ~= incarnation then return 'other' end
if active == 'false' then return 'ended' end
-- Whoever hears nothing of a host may be cut off from the others. What was written took a moment to come here.
if reason == 'timeout' and last and last + timeout > now + 1000 then return 'live' end
redis.call('HSET', KEYS[1], 'active', 'false', 'incarnation', incarnation, 'startTime', start, 'endedReason', reason,
    'endedAt', string.format('%.0f', now), 'bytes:' .. node, bytes, 'listenerCount', '0')
redis.call('PEXPIRE', KEYS[1], life)
return 'done'
