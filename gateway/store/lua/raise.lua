-- Raises a number of a hash, and never lowers it; also where memory is full, since it begins with a
-- write that changes nothing (gateway/redis/allow_oom.py).
-- KEYS[1]  the hash
-- KEYS[2]  a key that never exists
-- ARGV[1]  the field
-- ARGV[2]  the number
-- Output   1 where it was raised, else 0
local stands = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if tonumber(ARGV[2]) <= stands then
  return 0
end
redis.call('UNLINK', KEYS[2])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
