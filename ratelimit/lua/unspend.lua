-- Gives back what was spent of a day's quota and not used.
--
-- KEYS[1]  {quota:<app>}   hash; as in spend.lua
-- ARGV[1]  the day that spend.lua named
-- ARGV[2]  messages not used, >= 1
--
-- Output   1: given back; 0: that day is over
--
-- Not safe to run twice: whoever does not hear whether it ran leaves it at that.
if redis.call('HGET', KEYS[1], 'day') ~= ARGV[1] then
  return 0
end
redis.call('HINCRBY', KEYS[1], 'used', -tonumber(ARGV[2]))
return 1
