-- Sets a field of the state and gives what was there, unless the state is gone.
--
-- KEYS: the state. ARGV: the field, its value.
-- The reply is nil when there is no state, else the field's former value.

if redis.call('HEXISTS', KEYS[1], 'system') == 0 then
  return false
end
local before = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return before or ''
