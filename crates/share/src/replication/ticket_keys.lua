-- The keys that nodes sign tickets with: those that are there, and then those that are offered, as many as fit. The first
-- is the one for new tickets.
-- KEYS: the keys. ARGV: how long they are kept, how many at most, what is offered.
local held, seen = {}, {}
for seed in string.gmatch(redis.call('GET', KEYS[1]) or '', '%S+') do
    held[#held + 1] = seed
    seen[seed] = true
end
for i = 3, #ARGV do
    if not seen[ARGV[i]] and #held < tonumber(ARGV[2]) then
        held[#held + 1] = ARGV[i]
        seen[ARGV[i]] = true
    end
end
local text = table.concat(held, ' ')
redis.call('SET', KEYS[1], text, 'PX', ARGV[1])
return text
