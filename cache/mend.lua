-- Writes or deletes a fragment that is still as somebody saw it.
--
-- KEYS: its key, its guard; the watch of its viewlet, if it has a token.
-- ARGV: the guard's life in ms, the fragment's TTL in ms (0: for ever), the
--       channel; what was seen: the guard, and of the body the SHA-1, "none" or
--       "other"; the token of the watch, or nothing; then the new LSN, "set" or
--       "del", the body, the announcement.
-- The reply is a letter: see Outcome.

local key, guard = KEYS[1], KEYS[2]
local life, ttl, channel, seen, sum = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local token, lsn, verb, body, news = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]

local function sum_of(key)
  local now = redis.pcall('GET', key)
  if now == false then
    return 'none'
  end
  if type(now) == 'string' then
    return redis.sha1hex(now)
  end
  if not string.find(now.err, 'WRONGTYPE', 1, true) then
    redis.call('GET', key) -- raises it again
  end
  return 'other'
end

-- Who has written it since then has left a guard only if the watch was there.
if token ~= '' and redis.call('GET', KEYS[3]) ~= token then
  return 'r'
end
-- A guard that has gone is of a write long before.
local now = redis.call('GET', guard)
if now and (now ~= seen or lsn < now) or sum_of(key) ~= sum then
  return 'r'
end
redis.call('SET', guard, lsn, 'PX', life)
if verb == 'del' and sum == 'none' then
  return 'a'
end
redis.call('PUBLISH', channel, news) -- first, as in store.lua
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
