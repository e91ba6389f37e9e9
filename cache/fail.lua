-- Notes what could not be rendered, and keeps since when that is so.
--
-- KEYS: the hash of failures.
-- ARGV: "note", or "again" for what is noted already and for nothing else; then
--       for each failure its name, and its JSON up to where since follows.
-- The reply is how many names are new.

local again = ARGV[1] == 'again'
local new = 0
for i = 2, #ARGV, 3 do
  local name, note, since = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local old = redis.call('HGET', KEYS[1], name)
  if old then
    since = string.match(old, ',"since":"([^"]*)"}$') or since
  end
  if old or not again then
    new = new + redis.call('HSET', KEYS[1], name, note .. ',"since":"' .. since .. '"}')
  end
end
return new
