-- How a session is, and what a node says of itself. Field `node:N` is "expiry listeners flags" of node N: `a` needs
-- audio, `h` hears the host, `w` holds its socket. All times are those of this server, in milliseconds.
-- KEYS: the session. ARGV: the node, when the session began (empty: only to look), flags, listeners, bytes, how long ago
-- the host was heard (empty: not here), whether that was a socket (1, 0), whether the session is this node's (1, 0), how
-- long a session lives without its host, how long this is true.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local node, start, flags, listeners, bytes, age, socket, home, timeout, life = unpack(ARGV)
local looks = start == ''
local text = function(number) return string.format('%.0f', number) end
local all, held = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #held, 2 do all[held[i]] = held[i + 1] end

local changes = {}
local set = function(field, value)
    if all[field] ~= value then
        all[field] = value
        changes[#changes + 1] = field
        changes[#changes + 1] = value
    end
end

if not all.startTime then
    if looks or home ~= '1' then return { 'gone' } end
    -- Redis has lost it; this node has not.
    set('active', 'true')
    set('startTime', start)
    set('lastActivity', start)
end
if not looks and all.startTime ~= start then return { 'other' } end
if all.active ~= 'true' then
    return { 'ended', all.startTime, all.endedReason or 'stopped', text(now - (tonumber(all.endedAt) or now)) }
end

if not looks then
    set('node:' .. node, text(now + life) .. ' ' .. listeners .. ' ' .. flags)
    set('bytes:' .. node, bytes)
    if string.find(flags, 'w', 1, true) then set('socket', '1') end
    if age ~= '' and now - age >= tonumber(all.lastActivity or 0) then
        set('lastActivity', text(now - age))
        set('socket', socket)
    end
end

local entries, total, others, old = {}, 0, 0, {}
for field, value in pairs(all) do
    local kind, name = string.match(field, '^(%a+):(.+)$')
    if kind == 'node' then
        local expiry, count, marks = string.match(value, '^(%d+) (%d+) (%S*)$')
        if tonumber(expiry or 0) > now then
            entries[name] = { count, marks }
            total = total + count
        else
            old[#old + 1] = field
        end
    elseif kind == 'bytes' and name ~= node then
        others = others + value
    end
end

if not looks then
    local holder = entries[all.host or '']
    local hears = function(entry) return string.find(entry[2], 'h', 1, true) end
    if not holder or (hears(entries[node]) and not hears(holder)) then set('host', node) end
    set('listenerCount', text(total))
    if #old > 0 then redis.call('HDEL', KEYS[1], unpack(old)) end
    if #changes > 0 then redis.call('HSET', KEYS[1], unpack(changes)) end
    redis.call('PEXPIRE', KEYS[1], math.max(tonumber(all.lastActivity) + timeout - now, 1000))
end

local answer = { 'live', all.startTime, text(now - all.lastActivity), all.host or '', all.socket or '0', text(others) }
for name, entry in pairs(entries) do
    for _, part in ipairs({ name, entry[1], entry[2] }) do answer[#answer + 1] = part end
end
return answer
