-- Nothing is granted for a while: the provider said that it was too much.
--
-- KEYS[1]  {limit:<provider>}   hash; field "free_us" as in take.lua
-- ARGV[1]  how long from now, milliseconds, >= 1
--
-- Output   1: the next grant starts later than it would have; 0: it started that late already
--
-- Run twice it holds off from the second time on, by at most the time between the two.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local until_us = now + tonumber(ARGV[1]) * 1000
local free = tonumber(redis.call('HGET', KEYS[1], 'free_us') or '0')
if free >= until_us then
  return 0
end
redis.call('HSET', KEYS[1], 'free_us', string.format('%.0f', until_us))
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[1]) + 1000)
return 1
