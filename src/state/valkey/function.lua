#!lua name=micro_reward_v1

-- Replaces a row if it is the one that the caller changed; otherwise gives the row that is there.
-- KEYS: the row. ARGV: the first 8 bytes of the value that is expected ('' for none), the new value,
-- and for how many milliseconds to keep it ('0': for ever).
local function swap(keys, args)
  if redis.call('GETRANGE', keys[1], 0, 7) ~= args[1] then
    return redis.call('GET', keys[1])
  end
  if args[3] == '0' then
    redis.call('SET', keys[1], args[2])
  else
    redis.call('SET', keys[1], args[2], 'PX', args[3])
  end
  return 1
end

-- Notes who became a user and who no longer is one; gives the number of users.
-- KEYS: a sorted set of the smallest user keys, and the number of users.
-- ARGV: how many keys are kept, how many of the keys that follow have joined, those, and those that have left.
local function census(keys, args)
  local bound, n_joined = tonumber(args[1]), tonumber(args[2])
  local n_left = #args - 2 - n_joined
  for i = 3, #args do
    if i < 3 + n_joined then
      redis.call('ZADD', keys[1], 0, args[i])
    else
      redis.call('ZREM', keys[1], args[i])
    end
  end
  local n_users = redis.call('INCRBY', keys[2], n_joined - n_left)
  local n_kept = redis.call('ZCARD', keys[1])
  if n_kept > bound then
    redis.call('ZREMRANGEBYRANK', keys[1], bound, -1)
  elseif n_kept < bound and n_users < bound then
    -- All keys are here, so that a note that was lost or came twice is mended.
    n_users = n_kept
    redis.call('SET', keys[2], n_users)
  end
  return n_users
end

redis.register_function('micro_reward_swap_v1', swap)
redis.register_function('micro_reward_census_v1', census)
