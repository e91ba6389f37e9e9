-- Writes or deletes fragments that are not older than what is there.
--
-- KEYS: for each fragment its key and its guard; the state, if a session follows.
-- ARGV: the guard's life in ms, the fragments' TTL in ms (0: for ever), the
--       rule, the channel, the session that must have taken the state, or
--       nothing; then for each fragment its LSN, "set" or "del", its body, and
--       the announcement.
-- The reply has one letter for each fragment: see Outcome. Or it is the error
-- TAKEN when another session has the state, or GONE when there is none.
--
-- LSNs are 16 hex digits: they compare as strings, where Lua's numbers would
-- lose the last bits.

local life, ttl, rule, channel, session = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

if session ~= '' then
  local holder = redis.call('HGET', KEYS[#KEYS], 'session')
  if not holder then
    return redis.error_reply('GONE the state')
  elseif holder ~= session then
    return redis.error_reply('TAKEN the state')
  end
end

-- false: no such key; nil: not a string, so not ours, and to be replaced
local function body_of(key)
  local body = redis.pcall('GET', key)
  if type(body) ~= 'table' then
    return body
  end
  if not string.find(body.err, 'WRONGTYPE', 1, true) then
    redis.call('GET', key) -- raises it again
  end
  return nil
end

local function visit(key, guard, lsn, verb, body, news)
  local seen = redis.call('GET', guard)
  if seen and (lsn < seen or (lsn == seen and rule == 'newer')) then
    return 'r'
  end
  -- Even when nothing changes: who comes later with less must lose.
  redis.call('SET', guard, lsn, 'PX', life)

  local old = body_of(key)
  if old == false and verb == 'del' then
    return 'a'
  end
  if old == false and rule == 'requested' then
    return 's'
  end
  if old == body and verb == 'set' then
    if ttl == '0' then
      redis.call('PERSIST', key)
    else
      redis.call('PEXPIRE', key, ttl)
    end
    return 'e'
  end

  -- First, so that a try that fails is announced by the next. Nobody can read
  -- the fragment before the script ends.
  redis.call('PUBLISH', channel, news)
  if verb == 'del' then
    redis.call('DEL', key)
    return 'd'
  end
  if ttl == '0' then
    redis.call('SET', key, body)
  else
    redis.call('SET', key, body, 'PX', ttl)
  end
  return 'w'
end

local outcomes = {}
for i = 1, math.floor(#KEYS / 2) do
  local a = 4 * i + 1
  outcomes[i] = visit(KEYS[2 * i - 1], KEYS[2 * i], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4])
end
return table.concat(outcomes)
