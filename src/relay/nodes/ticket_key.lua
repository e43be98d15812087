-- The key that all nodes sign tickets with: the one that is there, or else the one that is offered.
-- KEYS: the key. ARGV: what is offered, how long it is kept.
local held = redis.call('GET', KEYS[1])
if not held then
    held = ARGV[1]
    redis.call('SET', KEYS[1], held)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return held
