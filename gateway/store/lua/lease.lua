-- Leases a part of what is free of a budget, which whoever leases it may reserve for a while.
-- KEYS[1]  hash: epoch -> what was leased in it and not given back (1e-6 units)
-- ARGV[1]  the limit
-- ARGV[2]  what is reserved and used, as it was read
-- ARGV[3]  how much is needed; 0: nothing is leased, only looked at
-- ARGV[4]  one part of so many of what is free is leased where that is more
-- ARGV[5]  how much of a former lease is given back, and
-- ARGV[6]  in which epoch that was leased
-- ARGV[7]  in which epoch that was read, or before
-- ARGV[8]  and so on: an epoch, and how much was reserved of what was leased in it, as it was read
-- Output   {leased, its epoch, what was free}. An epoch is a minute by Redis' clock; what was leased
--          in it counts beside what was reserved of that, until EPOCHS later nobody holds any. So
--          of what was read longer ago nothing is leased: what others reserved since is not known.
local EPOCHS, EPOCH_S, KEPT_MS = 3, 60, 600000
local epoch = math.floor(tonumber(redis.call('TIME')[1]) / EPOCH_S)
local needed = tonumber(ARGV[3])
if tonumber(ARGV[5]) > 0 and redis.call('HEXISTS', KEYS[1], ARGV[6]) == 1 then
  redis.call('HINCRBY', KEYS[1], ARGV[6], '-' .. ARGV[5])
end
if tonumber(ARGV[7]) + EPOCHS <= epoch then
  return {0, epoch, 0}
end
local spent = {}
for i = 8, #ARGV, 2 do
  spent[ARGV[i]] = tonumber(ARGV[i + 1])
end
local free = tonumber(ARGV[1]) - tonumber(ARGV[2])
local leased = redis.call('HGETALL', KEYS[1])
for i = 1, #leased, 2 do
  if tonumber(leased[i]) <= epoch - EPOCHS then
    redis.call('HDEL', KEYS[1], leased[i])
  else
    free = free - math.max(tonumber(leased[i + 1]) - (spent[leased[i]] or 0), 0)
  end
end
local granted = 0
if needed > 0 then
  granted = math.max(math.min(math.max(needed, math.floor(free / tonumber(ARGV[4]))), free), 0)
end
if granted > 0 then
  redis.call('HINCRBY', KEYS[1], epoch, string.format('%.0f', granted))
  redis.call('PEXPIRE', KEYS[1], KEPT_MS)
end
return {granted, epoch, free}
