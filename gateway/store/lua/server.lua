-- What the server that serves a key says of itself; it changes nothing.
-- KEYS[1]  any key of the shard that is asked about
-- Output   INFO's sections server, memory and persistence, one after the other
return redis.call('INFO', 'server') .. redis.call('INFO', 'memory') .. redis.call('INFO', 'persistence')
