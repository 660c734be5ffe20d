-- Replaces what is no row by one; gives the row that is there, if there is one.
-- KEYS: the row. ARGV: the new value, and for how many milliseconds to keep it ('0': for ever).
if redis.call('TYPE', KEYS[1])['ok'] == 'string' and redis.call('STRLEN', KEYS[1]) > 0 then
  return redis.call('GET', KEYS[1])
end
if ARGV[2] == '0' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
