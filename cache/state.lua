-- Sets a field of the state and gives what was there, unless the state is gone.
--
-- KEYS: the state. ARGV: the field, its value, the run_id that Redis must have,
--       or nothing, and the run_ids to note, or nothing.
-- The reply is nil when there is no state, or when Redis was restarted or failed
-- over, else the field's former value.

if redis.call('HEXISTS', KEYS[1], 'system') == 0 then
  return false
end
if ARGV[3] ~= '' and not string.find(redis.call('INFO', 'server'), 'run_id:' .. ARGV[3], 1, true) then
  return false
end
local before = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], 'run', ARGV[4])
end
return before or ''
