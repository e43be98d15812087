-- How a session is, and what a node says of itself. Field `node:N` is "expiry listeners flags" of node N: `a` needs
-- audio, `h` hears the host, `w` holds its socket. Field `hosting` is "number opened node" of the host's socket: each that
-- is opened has a higher number than those that its node knows of. All times are those of this server, in milliseconds.
-- KEYS: the session. ARGV: the node, the session's incarnation (empty: only to look), when it began, flags, listeners,
-- bytes, how long ago the host was heard at this node (empty: never), whether that was a socket (1, 0), how long ago it
-- was heard anywhere, the number of its socket here (empty: none) and when that was opened, how long a session lives
-- without its host, how long this is true.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local node, incarnation, start, flags, listeners, bytes, age, socket, heard, number, opened, timeout, life = unpack(ARGV)
local looks = incarnation == ''
local text = function(value) return string.format('%.0f', value) end
local has = function(marks, mark) return string.find(marks, mark, 1, true) ~= nil end
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

if looks then
    if not all.active then return { 'gone' } end
elseif all.incarnation ~= incarnation then
    -- Either Redis has lost the session: whoever has it writes it anew. Or nodes that were apart have begun one each: the
    -- one that began first goes on, if its host is heard at this node; nodes without a host only follow.
    local older = all.active == 'true' and (tonumber(start) < tonumber(all.startTime or 0)
        or (start == all.startTime and incarnation < (all.incarnation or '')))
    local free = not all.active or (has(flags, 'h') and (all.active ~= 'true' or older))
    if not free then return { 'other' } end
    redis.call('DEL', KEYS[1])
    all = {}
    set('active', 'true')
    set('incarnation', incarnation)
    set('startTime', start)
    set('lastActivity', text(now - heard))
end
if all.active ~= 'true' then
    local ago = text(now - (tonumber(all.endedAt) or now))
    return { 'ended', all.incarnation or '', all.startTime, all.endedReason or 'stopped', ago }
end

if not looks then
    set('node:' .. node, text(now + life) .. ' ' .. listeners .. ' ' .. flags)
    set('bytes:' .. node, bytes)
    if has(flags, 'w') then set('socket', '1') end
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

-- Of two sockets the one with the higher number is the host's; nodes that were apart may have given the same.
local highest, since, holder = string.match(all.hosting or '', '^(%d+) (%d+) (%S+)$')
local there = entries[holder or ''] and has(entries[holder][2], 'w')
if not looks and number ~= '' and holder ~= node and there then
    local mine, theirs = { tonumber(number), tonumber(opened), node }, { tonumber(highest), tonumber(since), holder }
    for i = 1, 3 do
        if mine[i] ~= theirs[i] then
            there = mine[i] < theirs[i]
            break
        end
    end
end
if not looks and number ~= '' and (holder == node or not there) then
    set('hosting', number .. ' ' .. opened .. ' ' .. node)
    highest, holder, there = number, node, true
end

if not looks then
    local home = entries[all.host or '']
    if not home or (has(flags, 'h') and not has(home[2], 'h')) then set('host', node) end
    set('listenerCount', text(total))
    if #old > 0 then redis.call('HDEL', KEYS[1], unpack(old)) end
    if #changes > 0 then redis.call('HSET', KEYS[1], unpack(changes)) end
    redis.call('PEXPIRE', KEYS[1], math.max(tonumber(all.lastActivity) + timeout - now, 1000))
end

local answer = { 'live', all.incarnation or '', all.startTime, text(now - all.lastActivity), all.host or '',
    all.socket or '0', text(others), highest or '0', there and holder or '' }
for name, entry in pairs(entries) do
    for _, part in ipairs({ name, entry[1], entry[2] }) do answer[#answer + 1] = part end
end
return answer
