-- Has the writes of a viewlet's fragments leave guards from now on.
--
-- KEYS: the viewlet's watch.
-- ARGV: a random word, the watch's life in ms.
-- The reply is the token that is there, a new one if there was none. The time makes
-- one of two executions differ from the other: a request that was thought lost may
-- arrive when what it left has gone again.

local token = redis.call('GET', KEYS[1])
if not token then
  token = ARGV[1] .. table.concat(redis.call('TIME'), '.')
end
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
return token
