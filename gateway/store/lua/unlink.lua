-- Removes records that are what they were when they were read.
-- KEYS     the records
-- ARGV     what each was
-- Output   for each: 1 it is gone by this, 0 it is another now or was gone before
local gone = {}
for i = 1, #KEYS do
  gone[i] = 0
  if redis.call('GET', KEYS[i]) == ARGV[i] then
    gone[i] = redis.call('UNLINK', KEYS[i])
  end
end
return gone
