-- Takes tokens of one limit: the next free moment of its schedule is given out, with room for n sends.
--
-- KEYS[1]  {limit:<provider>}   hash; field "free_us": the first moment (Redis time, microseconds) not given out yet
-- ARGV[1]  tokens wanted, >= 1
-- ARGV[2]  tokens at most in one grant (the quantum), >= 1
-- ARGV[3]  speed: tokens a million seconds, >= 1
-- ARGV[4]  horizon: how far ahead a grant may start, microseconds
-- ARGV[5]  lead: how far ahead it must start at least, microseconds, <= horizon; below 0, of a pace: how late who asks
--          may be and lose nothing, less than a second; what was missed comes on top of the quantum. Who finds no
--          schedule is not late: a pace at rest, for ten seconds, begins with the quantum
--
-- Output   {granted, wait_us, end_us}
--          granted >= 1: that many may be sent together in wait_us microseconds from now; end_us names the grant to
--                        give_back.lua
--          granted = 0:  too many grants are ahead; ask again in wait_us microseconds (end_us is 0)
--
-- Run twice by mistake it grants twice, which costs speed and never breaks the limit.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local free, lead = redis.call('HGET', KEYS[1], 'free_us'), tonumber(ARGV[5])
local unit, speed, quantum = 1000000000000, tonumber(ARGV[3]), tonumber(ARGV[2])
if free and lead < 0 then
  -- Further ahead than a quantum of this speed it is only where the one before was slower.
  local ahead = string.format('%.0f', now + math.ceil(quantum * unit / speed))
  if tonumber(free) > tonumber(ahead) then
    free = ahead
    redis.call('HSET', KEYS[1], 'free_us', free)
  end
end
local start = free and math.max(tonumber(free), now + lead) or now + math.max(lead, 0)
local horizon = tonumber(ARGV[4])
if start - now > horizon then
  return {0, start - now - horizon, 0}
end
-- Exact: fmod of integers below 2^53 is, a division's fraction is not.
local missed = math.max(now - start, 0) * speed
local most = quantum + (missed - math.fmod(missed, unit)) / unit
local granted = math.min(tonumber(ARGV[1]), most)
-- Rounded up.
local work = granted * unit
local rest = math.fmod(work, speed)
local ends = start + (work - rest) / speed + (rest > 0 and 1 or 0)
redis.call('HSET', KEYS[1], 'free_us', string.format('%.0f', ends))
redis.call('PEXPIRE', KEYS[1], math.ceil((ends - now) / 1000) + (lead < 0 and 10000 or 1000))
return {granted, start - now, ends}
