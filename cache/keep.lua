-- Tells which fragments are there, and moves the guards of the others on.
--
-- KEYS: for each fragment its key and its guard; the watch of their viewlet, unless
--       guards are to be left anyway.
-- ARGV: the guard's life in ms, the LSN.
-- The reply has one letter for each fragment: p present, m missing.

local life, lsn = ARGV[1], ARGV[2]
local leave = #KEYS % 2 == 0 or redis.call('EXISTS', KEYS[#KEYS]) == 1
local found = {}
for i = 1, math.floor(#KEYS / 2) do
  local key, guard = KEYS[2 * i - 1], KEYS[2 * i]
  if redis.call('EXISTS', key) == 1 then
    found[i] = 'p'
  else
    local seen = leave and redis.call('GET', guard)
    if leave and (not seen or seen <= lsn) then
      redis.call('SET', guard, lsn, 'PX', life)
    end
    found[i] = 'm'
  end
end
return table.concat(found)
