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

-- old is false too where the key holds no string: then it is not ours, and replaced.
-- It is of no meaning for a "del".
local function visit(key, guard, lsn, verb, body, news, old, seen)
  if seen and (lsn < seen or (lsn == seen and rule == 'newer')) then
    return 'r'
  end
  -- Even when nothing changes: who comes later with less must lose.
  redis.call('SET', guard, lsn, 'PX', life)

  if verb == 'set' and old == body then
    if ttl == '0' then
      redis.call('PERSIST', key)
    else
      redis.call('PEXPIRE', key, ttl)
    end
    return 'e'
  end
  if (verb == 'del' or not old and rule == 'requested') and redis.call('EXISTS', key) == 0 then
    return verb == 'del' and 'a' or 's'
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

-- One MGET for many costs half of a GET for each, and each key comes once; unpack
-- takes no more than some. The body of what is deleted is not read, it may be long.
local outcomes, n, some = {}, math.floor(#KEYS / 2), 1000
for first = 1, n, some do
  local last, wanted = math.min(n, first + some - 1), {}
  for i = first, last do
    wanted[2 * (i - first) + 1] = KEYS[ARGV[4 * i + 3] == 'del' and 2 * i or 2 * i - 1]
    wanted[2 * (i - first) + 2] = KEYS[2 * i]
  end
  local found = redis.call('MGET', unpack(wanted))
  for i = first, last do
    local a, f = 4 * i + 1, 2 * (i - first) + 1
    outcomes[i] = visit(KEYS[2 * i - 1], KEYS[2 * i], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], found[f], found[f + 1])
  end
end
return table.concat(outcomes)
