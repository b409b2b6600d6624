-- How far ahead a limit is granted: for whoever watches.
--
-- KEYS[1]  {limit:<provider>}   hash; field "free_us" as in take.lua
--
-- Output   microseconds from now until the first moment that is not given out; 0 when it has passed
--
-- Changes nothing, so it may run any number of times.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local free = tonumber(redis.call('HGET', KEYS[1], 'free_us') or '0')
return math.max(free - now, 0)
