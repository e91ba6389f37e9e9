-- Has the writes of a viewlet's fragments leave guards from now on.
--
-- KEYS: the viewlet's watch.
-- ARGV: a token, its life in ms.
-- The reply is the token that is there: the one given, if there was none.

local token = redis.call('GET', KEYS[1]) or ARGV[1]
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
return token
