-- Sets fields of the state, if it is there and whoever sets them has it.
--
-- KEYS: the state.
-- ARGV: the run_id that Redis must have, the session that must have taken the
--       state (both are empty when nobody took it), how, then fields and values.
--       How is field; onward, for an LSN that only rises; or anew, for all of it.
-- The reply is gone when there is no state, or when Redis was restarted; taken
-- when another session has it; else done and the first field's former value.

local state, run, session, how = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

if run ~= '' and not string.find(redis.call('INFO', 'server'), 'run_id:' .. run, 1, true) then
  return {'gone'}
end
if how ~= 'anew' and redis.call('HEXISTS', state, 'system') == 0 then
  return {'gone'}
end
if session ~= '' then
  local holder = redis.call('HGET', state, 'session')
  if holder ~= session then
    return {holder and 'taken' or 'gone'}
  end
end

-- a and b are LSNs such as 16/B374D848, of which each half fits a number
local function beyond(a, b)
  local aHigh, aLow = string.match(a, '(%x+)/(%x+)')
  local bHigh, bLow = string.match(b, '(%x+)/(%x+)')
  if aHigh == bHigh then
    return tonumber(aLow, 16) > tonumber(bLow, 16)
  end
  return tonumber(aHigh, 16) > tonumber(bHigh, 16)
end

local before = redis.call('HGET', state, ARGV[4]) or ''
if how == 'onward' and before ~= '' and beyond(before, ARGV[5]) then
  return {'done', before}
end
if how == 'anew' then
  redis.call('DEL', state)
  if session ~= '' then
    redis.call('HSET', state, 'session', session)
  end
end
for i = 4, #ARGV, 2 do -- one by one: a thousand viewlets are more than unpack takes
  redis.call('HSET', state, ARGV[i], ARGV[i + 1])
end
return {'done', before}
