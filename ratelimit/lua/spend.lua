-- Spends a caller's quotas: its rate for all that it asks at once, its day as far as it goes.
--
-- KEYS[1]  {quota:<app>}   hash; "free_us": the first moment (Redis time, microseconds) not spent yet;
--                          "speed": that it was spent at; "day": days since 1970 (UTC); "used": spent on that day
-- ARGV[1]  messages asked for; 0: it only looks
-- ARGV[2]  speed: messages a million seconds; 0: no rate
-- ARGV[3]  ahead: how far the rate may have been spent already, microseconds
-- ARGV[4]  messages a day; 0: any number
--
-- Output   {granted, wait_us, day, used}
--          wait_us > 0: the rate is spent; nothing is granted, ask again in wait_us microseconds
--          else:        `granted` may be sent, fewer than asked where the day ends it
--
-- Run twice by mistake it spends twice, which breaks no quota.
local time = redis.call('TIME')
local now, today = time[1] * 1000000 + time[2], math.floor(time[1] / 86400)
local found = redis.call('HMGET', KEYS[1], 'free_us', 'day', 'used', 'speed')
local used = tonumber(found[2] or '-1') == today and tonumber(found[3]) or 0
local asked, speed = tonumber(ARGV[1]), tonumber(ARGV[2])
local start, before = math.max(tonumber(found[1] or '0'), now), tonumber(found[4] or '0')
if before > 0 and speed > 0 and before ~= speed then
  -- What is ahead is so many messages, which another speed takes another time for.
  start = now + math.ceil((start - now) * (before / speed))
end
local ahead = start - now - tonumber(ARGV[3])
if speed > 0 and ahead > 0 then
  return {0, ahead, today, used}
end
local day_max = tonumber(ARGV[4])
local granted = day_max > 0 and math.max(math.min(asked, day_max - used), 0) or asked
local ends = speed > 0 and start + math.ceil(asked * 1000000000000 / speed) or 0
redis.call('HSET', KEYS[1], 'free_us', string.format('%.0f', ends), 'speed', ARGV[2])
redis.call('HSET', KEYS[1], 'day', today, 'used', used + granted)
redis.call('EXPIRE', KEYS[1], 172800)
return {granted, 0, today, used + granted}
