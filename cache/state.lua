-- Sets fields of the state, if it is there and whoever sets them has it.
--
-- KEYS: the state.
-- ARGV: the run_id that Redis must have, or nothing; the run_ids to note, or
--       nothing; the session that must have taken the state (all are empty when
--       nobody took it); how, then fields and values. How is field; onward, for
--       an LSN that only rises; or anew, for all of it.
-- The reply is gone when there is no state, or when Redis was restarted or failed
-- over; taken when another session has it; else done and the first field's former
-- value.

local state, run, runs, session, how = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]

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

local before = redis.call('HGET', state, ARGV[5]) or ''
if how == 'onward' and before ~= '' and beyond(before, ARGV[6]) then
  return {'done', before}
end
if how == 'anew' then
  redis.call('DEL', state)
  if session ~= '' then
    redis.call('HSET', state, 'session', session)
  end
end
if runs ~= '' then
  redis.call('HSET', state, 'run', runs)
end
for i = 5, #ARGV, 2 do -- one by one: a thousand viewlets are more than unpack takes
  redis.call('HSET', state, ARGV[i], ARGV[i + 1])
end
return {'done', before}
