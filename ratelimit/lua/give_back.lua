-- Gives back tokens of a grant that will not be sent, as long as nothing was granted after it.
--
-- KEYS[1]  {limit:<provider>}   hash; field "free_us" as in take.lua
-- ARGV[1]  end_us of the grant, as take.lua gave it
-- ARGV[2]  tokens not used, >= 1 and at most those granted
-- ARGV[3]  speed: tokens a million seconds, >= 1
--
-- Output   1: given back; 0: a later grant exists (its start rests on this one's end), the tokens lapse
--
-- Safe to run twice: the second time the end no longer matches.
local free = redis.call('HGET', KEYS[1], 'free_us')
if not free or free ~= ARGV[1] then
  return 0
end
local work, speed = tonumber(ARGV[2]) * 1000000000000, tonumber(ARGV[3])
local span = (work - math.fmod(work, speed)) / speed
redis.call('HSET', KEYS[1], 'free_us', string.format('%.0f', tonumber(free) - span))
return 1
