#!lua name=fleet_v4
--[[
The scheduler of embed-fleet inside Redis 7+ or Valkey: one function per transition, each one atomic.

The rules are those of `queue::transition` (Rust), which the in-memory queue runs on; a property test
drives both and compares every answer.

Keys. Every call names one key, `fleet:{RUN}:run`; all others share its prefix and its hash slot.
  run            hash    state, settings, sums of items, largest_memory; the run exists where `state`
                         is set
  shards         zset    every shard, scored by its id
  pending        zset    scored by id: the lowest is claimed first
  leased         zset    scored by the time of expiry
  delayed        zset    scored by the time at which it is pending again
  dead           zset    scored by id
  shard:ID       hash    one shard (fields below)
  leases         hash    by shard what is shown of its lease: attempt, expires_at, items_done, worker
  seen           hash    by worker when it was last seen and what it says of itself, as JSON
  worker_items   hash    by worker the items of the shards it finished
  host_failures  hash    by worker the failures that were its machine's
  granted        hash    by worker the nonce of its last claim that was given leases
  held:ID        zset    the shards that a worker holds, scored by id
  minutes        hash    items embedded by the minute
  events         stream  the latest changes, for people and for tests: event, shard, worker, token, detail

Fields of a shard.
  always         state, bundle, items
  leased         worker, token, nonce, items_done, in_flight_first, in_flight_end
  done           part, embedded, failed
  trouble        attempts, lost_leases, message, suspect_worker, suspect_first, suspect_end,
                 isolate_first, isolate_end, shortages, waived: absent until something goes wrong, and
                 once it is done
  last ending    ended_token, ended_by: how the last lease was ended by its worker

What is told of workers and leases lies in one hash each: `snapshot` hands them over as they are, one command
a hash, however many workers there are. A hash a worker would cost it ten times as much. The library fleet_v3 kept
a set `workers` and a hash `worker:ID` of each: a run that it began goes on, and `forget` takes them along.

Invariants.
  1. A shard stands in the set of its state and in no other; a done one stands in none of the four.
  2. A leased shard stands in the `held` set of its worker and in `leases`, no other does.
  3. A lease changes only in a function that has tested, in the same call, that the shard is leased,
     by this worker, under this token (or, in the reaper, that its time has passed).
  4. Times are this server's, in microseconds. No client's clock is ever used.
  5. Tokens grow: the server's time, forced above the last one.
`change_state` keeps 1 and 2; `held_by` and `reap_expired` keep 3. `audit` repairs 1 and 2 where a
person or a half-restored backup broke them.

Numbers are written with `whole`: `tostring` keeps 14 digits, and a time in microseconds has 16.
--]]

local REAPED_PER_CLAIM = 100
local LEASES_PER_CLAIM = 100
local FAILURES_SHOWN = 100
local EVENTS_KEPT = 1000
local SHARDS_PER_STEP = 500
local MINUTES_KEPT = 10
local SHORTAGES_KEPT = 16
local HOSTS_THAT_PROVE = 2
local MINUTE = 60000000

-- The states that have a set of their own.
local SET_STATES = {'pending', 'leased', 'delayed', 'dead'}

local LEASE_FIELDS = {'worker', 'token', 'nonce', 'items_done', 'in_flight_first', 'in_flight_end'}
local PART_FIELDS = {'part', 'embedded', 'failed'}
local TROUBLE_FIELDS = {
  'attempts', 'lost_leases', 'message', 'suspect_worker', 'suspect_first', 'suspect_end',
  'isolate_first', 'isolate_end', 'shortages', 'waived',
}

local function server_now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function whole(number)
  return string.format('%.0f', number)
end

local function number_of(text)
  return tonumber(text or '0')
end

-- '0' stays '0': Redis takes no '-0' for an integer.
local function negative(text)
  return whole(0 - number_of(text))
end

-- A hash as a table; nil where there is none.
local function read_hash(key)
  local flat = redis.call('HGETALL', key)
  if #flat == 0 then
    return nil
  end
  local fields = {}
  for index = 1, #flat, 2 do
    fields[flat[index]] = flat[index + 1]
  end
  return fields
end

local function remove_fields(key, shard, fields)
  redis.call('HDEL', key, unpack(fields))
  for _, field in ipairs(fields) do
    shard[field] = nil
  end
end

local function set_field(key, shard, field, value)
  redis.call('HSET', key, field, value)
  shard[field] = value
end

-- Runs ---------------------------------------------------------------------------------------------

local function keys_of(run_key)
  local prefix = string.sub(run_key, 1, -4)
  return {
    run = run_key,
    shards = prefix .. 'shards',
    pending = prefix .. 'pending',
    leased = prefix .. 'leased',
    delayed = prefix .. 'delayed',
    dead = prefix .. 'dead',
    leases = prefix .. 'leases',
    seen = prefix .. 'seen',
    worker_items = prefix .. 'worker_items',
    host_failures = prefix .. 'host_failures',
    granted = prefix .. 'granted',
    minutes = prefix .. 'minutes',
    events = prefix .. 'events',
    shard = function(id) return prefix .. 'shard:' .. id end,
    held = function(id) return prefix .. 'held:' .. id end,
    workers_of_v3 = prefix .. 'workers',
    worker_of_v3 = function(id) return prefix .. 'worker:' .. id end,
  }
end

-- The run as a table with its keys and the time of this call; nil where it is not known.
local function open_run(run_key)
  local keys = keys_of(run_key)
  local fields = read_hash(keys.run)
  if not fields or not fields.state or fields.forgetting then
    return nil
  end
  return {
    keys = keys,
    now = server_now(),
    state = fields.state,
    adding = fields.adding,
    made_at = fields.made_at,
    last_token = number_of(fields.last_token),
    largest_memory = number_of(fields.largest_memory),
    items_total = fields.items_total or '0',
    items_done = fields.items_done or '0',
    items_failed = fields.items_failed or '0',
    lease = number_of(fields.lease_microseconds),
    max_attempts = number_of(fields.max_attempts),
    max_lost_leases = number_of(fields.max_lost_leases),
    first_backoff = number_of(fields.first_backoff_microseconds),
    longest_backoff = number_of(fields.longest_backoff_microseconds),
    host_failures_to_ban = number_of(fields.host_failures_to_ban),
  }
end

-- `worker` and `token` are those of the lease that the event begins or ends; `detail` is a number.
local function record_event(run, kind, id, worker, token, detail)
  redis.call('XADD', run.keys.events, 'MAXLEN', '~', EVENTS_KEPT, '*',
    'event', kind, 'shard', id, 'worker', worker or '', 'token', token or '', 'detail', detail or '')
end

local function count_items(run, items)
  if items <= 0 then
    return
  end
  local minute = math.floor(run.now / MINUTE)
  local counted = redis.call('HINCRBY', run.keys.minutes, whole(minute), whole(items))
  if counted == items then
    -- A new minute: the moment to drop old ones.
    for _, other in ipairs(redis.call('HKEYS', run.keys.minutes)) do
      if tonumber(other) < minute - MINUTES_KEPT then
        redis.call('HDEL', run.keys.minutes, other)
      end
    end
  end
end

local function touch_worker(run, worker, info)
  redis.call('HSET', run.keys.seen, worker, whole(run.now) .. ' ' .. info)
end

-- The field of a worker in a hash of one field each; nil where it has none.
local function of_worker(key, worker)
  return redis.call('HMGET', key, worker)[1] or nil
end

-- The name of the worker's machine, as it said when it was last seen.
local function host_of(run, worker)
  local stored = of_worker(run.keys.seen, worker)
  return stored and cjson.decode(string.match(stored, '^%d+ (.*)$')).host or ''
end

-- Notes that the run has a machine of this memory. The largest only grows.
local function see_memory(run, memory)
  if tonumber(memory) > run.largest_memory then
    redis.call('HSET', run.keys.run, 'largest_memory', memory)
    run.largest_memory = tonumber(memory)
  end
end

-- Changes of one shard -----------------------------------------------------------------------------

-- The only place where a shard's state changes (invariants 1 and 2). `score` is its place in the set
-- of the new state; a done shard has none.
local function change_state(run, id, shard, state, score)
  local key = run.keys.shard(id)
  if shard.state == 'leased' then
    redis.call('ZREM', run.keys.held(shard.worker), id)
    redis.call('HDEL', run.keys.leases, id)
    remove_fields(key, shard, LEASE_FIELDS)
  elseif shard.state == 'done' then
    redis.call('HINCRBY', run.keys.run, 'items_done', negative(shard.embedded))
    redis.call('HINCRBY', run.keys.run, 'items_failed', negative(shard.failed))
    remove_fields(key, shard, PART_FIELDS)
  end
  if shard.state ~= 'done' then
    redis.call('ZREM', run.keys[shard.state], id)
  end
  if state ~= 'done' then
    redis.call('ZADD', run.keys[state], score, id)
  end
  set_field(key, shard, 'state', state)
end

-- Which attempt at a shard its lease is: 1 for the first.
local function attempt_of(shard)
  return whole(number_of(shard.attempts) + number_of(shard.lost_leases) + 1)
end

-- The other half of invariant 2, for `snapshot`; 1 where the lease was not shown before. The worker's id comes
-- last, since it may have spaces.
local function show_lease(run, id, shard, expires_at)
  local shown = {attempt_of(shard), expires_at, shard.items_done or '0', shard.worker}
  return redis.call('HSET', run.keys.leases, id, table.concat(shown, ' '))
end

local function make_pending(run, id, shard)
  change_state(run, id, shard, 'pending', id)
end

local function make_dead(run, id, shard)
  change_state(run, id, shard, 'dead', id)
  record_event(run, 'dead', id)
end

local function make_done(run, id, shard, part, embedded, failed)
  local key = run.keys.shard(id)
  change_state(run, id, shard, 'done')
  remove_fields(key, shard, TROUBLE_FIELDS)
  redis.call('HSET', key, 'part', part, 'embedded', embedded, 'failed', failed)
  redis.call('HINCRBY', run.keys.run, 'items_done', embedded)
  redis.call('HINCRBY', run.keys.run, 'items_failed', failed)
end

-- Invariant 3: the shard with its fields, where this worker and token hold it; else nil and the
-- shard, where it is known.
local function held_by(run, id, worker, token)
  local shard = read_hash(run.keys.shard(id))
  if shard and shard.state == 'leased' and shard.worker == worker and shard.token == token then
    return shard, shard
  end
  return nil, shard
end

-- Notes how a worker ended its lease, so that the same call repeated gets the same answer.
local function note_ending(run, id, shard, token, how)
  redis.call('HSET', run.keys.shard(id), 'ended_token', token, 'ended_by', how)
end

-- How this very token was ended before; nil where it was not.
local function ended_before(shard, token)
  if shard and shard.ended_token == token then
    return shard.ended_by
  end
  return nil
end

-- Two leases lost on different workers in overlapping batches: what kills both lies in the overlap.
local function suspect_range(key, shard, worker, first, last)
  local shared_first = math.max(number_of(shard.suspect_first), tonumber(first))
  local shared_end = math.min(number_of(shard.suspect_end), tonumber(last))
  if shard.suspect_worker and shard.suspect_worker ~= worker and shared_first < shared_end then
    redis.call('HSET', key, 'isolate_first', whole(shared_first), 'isolate_end', whole(shared_end))
  end
  redis.call('HSET', key, 'suspect_worker', worker, 'suspect_first', first, 'suspect_end', last)
end

-- The caller has tested that the shard is leased and that its time has passed.
local function lose_lease(run, id, shard)
  local key = run.keys.shard(id)
  local worker = shard.worker
  local lost = redis.call('HINCRBY', key, 'lost_leases', 1)
  redis.call('HSET', key, 'message', whole(lost) .. ' leases lost, the last by ' .. worker)
  if shard.in_flight_first then
    suspect_range(key, shard, worker, shard.in_flight_first, shard.in_flight_end)
  end
  local expired_at = number_of(redis.call('ZSCORE', run.keys.leased, id))
  record_event(run, 'lost', id, worker, shard.token, whole(run.now - expired_at))
  if lost >= run.max_lost_leases then
    make_dead(run, id, shard)
  else
    make_pending(run, id, shard)
  end
end

-- Too little memory -------------------------------------------------------------------------------

-- The items of a shard that machines of the largest memory ran out on, each with its host. They lie in
-- one field as JSON, the numbers as texts. Those of machines that are no longer the largest are left
-- out: they prove nothing any more.
local function standing_shortages(run, shard)
  local standing = {}
  for _, shortage in ipairs(cjson.decode(shard.shortages or '[]')) do
    if tonumber(shortage.memory) >= run.largest_memory then
      standing[#standing + 1] = shortage
    end
  end
  return standing
end

-- On how many hosts the item ran out; no host stands twice.
local function count_hosts(shortages, item)
  local hosts = 0
  for _, shortage in ipairs(shortages) do
    if shortage.item == item then
      hosts = hosts + 1
    end
  end
  return hosts
end

-- Positions of items that are too large, ascending, with commas between them.
local function too_large(run, shard)
  local shortages = standing_shortages(run, shard)
  local hosts, items = {}, {}
  for _, shortage in ipairs(shortages) do
    local item = shortage.item
    hosts[item] = (hosts[item] or 0) + 1
    if hosts[item] == HOSTS_THAT_PROVE then
      items[#items + 1] = tonumber(item)
    end
  end
  table.sort(items)
  return table.concat(items, ',')
end

-- Remembers that this host ran out on this item; true where the item turns out too large. What is full
-- takes no more: dropping the oldest would let items that are known to be too large come back for ever.
local function note_shortage(run, key, shard, item, host, memory)
  local shortages = standing_shortages(run, shard)
  local hosts = count_hosts(shortages, item)
  for _, shortage in ipairs(shortages) do
    if shortage.item == item and shortage.host == host then
      return false
    end
  end
  if hosts >= HOSTS_THAT_PROVE or #shortages >= SHORTAGES_KEPT then
    return false
  end
  shortages[#shortages + 1] = {item = item, host = host, memory = memory}
  redis.call('HSET', key, 'shortages', cjson.encode(shortages))
  return hosts + 1 >= HOSTS_THAT_PROVE
end

-- A machine smaller than the largest proves nothing about the shard. An item that turns out too large is
-- left out from now on, so the shard starts afresh without it.
local function count_shortage(run, key, shard, worker, item, memory)
  see_memory(run, memory)
  if tonumber(memory) < run.largest_memory then
    redis.call('HINCRBY', key, 'waived', 1)
    return
  end
  if note_shortage(run, key, shard, item, host_of(run, worker), memory) then
    redis.call('HDEL', key, 'attempts', 'waived')
  else
    redis.call('HINCRBY', key, 'attempts', 1)
  end
end

-- Repair -------------------------------------------------------------------------------------------

local function standing_score(run, id, shard)
  if shard.state == 'leased' then
    -- A full lease: its worker may be alive, and the next beat sets the time right.
    return whole(run.now + run.lease)
  elseif shard.state == 'delayed' then
    return whole(run.now)
  end
  return id
end

-- Makes invariants 1 and 2 hold for one shard, by what its hash says; 1 where something was repaired.
local function settle(run, id)
  local key = run.keys.shard(id)
  local shard = read_hash(key)
  local repairs = 0
  if not shard or not shard.bundle then
    -- Its hash is lost: the shard is not known any more, and `add` brings it back.
    redis.call('DEL', key)
    repairs = redis.call('ZREM', run.keys.shards, id) + redis.call('HDEL', run.keys.leases, id)
    for _, state in ipairs(SET_STATES) do
      repairs = repairs + redis.call('ZREM', run.keys[state], id)
    end
    return math.min(repairs, 1)
  end
  local whole_lease = shard.worker and shard.token and shard.nonce
  local whole_part = shard.part and shard.embedded and shard.failed
  local legal = {
    pending = true, delayed = true, dead = true, leased = whole_lease, done = whole_part,
  }
  if not legal[shard.state or ''] then
    remove_fields(key, shard, LEASE_FIELDS)
    remove_fields(key, shard, PART_FIELDS)
    set_field(key, shard, 'state', 'pending')
    repairs = 1
  end
  repairs = repairs + redis.call('ZADD', run.keys.shards, id, id)
  for _, state in ipairs(SET_STATES) do
    if state ~= shard.state then
      repairs = repairs + redis.call('ZREM', run.keys[state], id)
    elseif not redis.call('ZSCORE', run.keys[state], id) then
      redis.call('ZADD', run.keys[state], standing_score(run, id, shard), id)
      repairs = repairs + 1
    end
  end
  if shard.state == 'leased' then
    repairs = repairs + redis.call('ZADD', run.keys.held(shard.worker), id, id)
    repairs = repairs + show_lease(run, id, shard, whole(redis.call('ZSCORE', run.keys.leased, id)))
  else
    repairs = repairs + redis.call('HDEL', run.keys.leases, id)
  end
  if repairs > 0 then
    record_event(run, 'repaired', id)
  end
  return math.min(repairs, 1)
end

-- Claiming -----------------------------------------------------------------------------------------

-- Members whose time has come, at most REAPED_PER_CLAIM, so that a claim stays cheap.
local function due(run, set)
  return redis.call('ZRANGEBYSCORE', set, '-inf', whole(run.now), 'LIMIT', 0, REAPED_PER_CLAIM)
end

local function reap_expired(run)
  for _, id in ipairs(due(run, run.keys.leased)) do
    local shard = read_hash(run.keys.shard(id))
    if shard and shard.state == 'leased' and shard.worker then
      lose_lease(run, id, shard)
    else
      settle(run, id)
    end
  end
end

local function promote_delayed(run)
  for _, id in ipairs(due(run, run.keys.delayed)) do
    local shard = read_hash(run.keys.shard(id))
    if shard and shard.state == 'delayed' then
      make_pending(run, id, shard)
    else
      settle(run, id)
    end
  end
end

local function append_lease(run, reply, id, shard, expires_at)
  local fields = {
    id, shard.bundle, shard.items, shard.token, expires_at, attempt_of(shard),
    shard.isolate_first or '', shard.isolate_end or '', too_large(run, shard),
  }
  for _, field in ipairs(fields) do
    reply[#reply + 1] = field
  end
end

local function new_token(run)
  run.last_token = math.max(run.now, run.last_token + 1)
  local token = whole(run.last_token)
  redis.call('HSET', run.keys.run, 'last_token', token)
  return token
end

local function lease_shard(run, id, shard, worker, nonce)
  local expires_at = whole(run.now + run.lease)
  local key = run.keys.shard(id)
  change_state(run, id, shard, 'leased', expires_at)
  local token = new_token(run)
  set_field(key, shard, 'worker', worker)
  set_field(key, shard, 'token', token)
  set_field(key, shard, 'nonce', nonce)
  redis.call('ZADD', run.keys.held(worker), id, id)
  show_lease(run, id, shard, expires_at)
  record_event(run, 'leased', id, worker, token)
  return expires_at
end

-- The leases that this very claim made and that still stand, lowest id first. Nothing needs to be
-- remembered for it, so nothing can go stale.
local function leases_of_claim(run, worker, nonce)
  local reply = {'leases', whole(run.lease)}
  for _, id in ipairs(redis.call('ZRANGE', run.keys.held(worker), 0, -1)) do
    local shard = read_hash(run.keys.shard(id))
    if not shard or shard.state ~= 'leased' or shard.worker ~= worker then
      redis.call('ZREM', run.keys.held(worker), id)
    elseif shard.nonce == nonce then
      append_lease(run, reply, id, shard, whole(redis.call('ZSCORE', run.keys.leased, id) or run.now))
    end
  end
  return reply
end

local function grant(run, worker, nonce, max)
  local reply = {'leases', whole(run.lease)}
  for _, id in ipairs(redis.call('ZRANGE', run.keys.pending, 0, max - 1)) do
    local shard = read_hash(run.keys.shard(id))
    if shard and shard.state == 'pending' then
      local expires_at = lease_shard(run, id, shard, worker, nonce)
      append_lease(run, reply, id, shard, expires_at)
    else
      settle(run, id)
    end
  end
  return reply
end

local function count_shards(run)
  local counts = {total = redis.call('ZCARD', run.keys.shards)}
  counts.done = counts.total
  for _, state in ipairs(SET_STATES) do
    counts[state] = redis.call('ZCARD', run.keys[state])
    counts.done = counts.done - counts[state]
  end
  return counts
end

-- The earliest time in the sets of leases and delays; nil where both are empty.
local function next_change(run)
  local earliest = nil
  for _, state in ipairs({'leased', 'delayed'}) do
    local first = redis.call('ZRANGE', run.keys[state], 0, 0, 'WITHSCORES')
    if first[2] then
      local time = tonumber(first[2])
      earliest = math.min(earliest or time, time)
    end
  end
  return earliest
end

local function is_banned(run, host_failures)
  return run.host_failures_to_ban > 0 and host_failures >= run.host_failures_to_ban
end

-- args: worker, what it says of itself (JSON with `host`), memory, nonce, max
-- {'leases', lease, then per lease id, bundle, items, token, expires_at, attempt, isolate_first,
-- isolate_end, positions that are too large}, or {'wait', time}, or the name of another answer.
local function claim(keys, args)
  local worker, info, memory, nonce, max = args[1], args[2], args[3], args[4], tonumber(args[5])
  local run = open_run(keys[1])
  if not run then
    return {'unknown_run'}
  end
  touch_worker(run, worker, info)
  see_memory(run, memory)
  reap_expired(run)
  promote_delayed(run)

  local again = leases_of_claim(run, worker, nonce)
  if #again > 2 then
    return again
  end
  if of_worker(run.keys.granted, worker) == nonce then
    -- Its leases stand no more. A repeat that arrives late must not take others, which nobody would
    -- work on.
    return {'wait', whole(run.now)}
  end
  local counts = count_shards(run)
  if not run.adding and counts.total > 0 and counts.done == counts.total then
    return {'finished'}
  end
  if is_banned(run, number_of(of_worker(run.keys.host_failures, worker))) then
    return {'banned'}
  end
  if run.state ~= 'running' then
    return {run.state}
  end
  local granted = grant(run, worker, nonce, math.max(1, math.min(max, LEASES_PER_CLAIM)))
  if #granted > 2 then
    redis.call('HSET', run.keys.granted, worker, nonce)
    return granted
  end
  local change = next_change(run)
  if change then
    return {'wait', whole(change)}
  end
  -- Without any shard, or while shards are being added, more may come at any moment.
  if run.adding or counts.total == 0 or counts.pending > 0 then
    return {'wait', whole(run.now)}
  end
  return {'stuck'}
end

-- Working ------------------------------------------------------------------------------------------

local function beat_shard(run, worker, id, token, items_done, first, last)
  local held, shard = held_by(run, id, worker, token)
  if not held then
    if shard and shard.state == 'done' then
      return 'cancelled', ''
    end
    return 'lost', ''
  end
  local key = run.keys.shard(id)
  count_items(run, tonumber(items_done) - number_of(held.items_done))
  redis.call('HSET', key, 'items_done', items_done)
  if first == '' then
    redis.call('HDEL', key, 'in_flight_first', 'in_flight_end')
  else
    redis.call('HSET', key, 'in_flight_first', first, 'in_flight_end', last)
  end
  local expires_at = whole(run.now + run.lease)
  redis.call('ZADD', run.keys.leased, expires_at, id)
  held.items_done = items_done
  show_lease(run, id, held, expires_at)
  return 'extended', expires_at
end

-- args: worker, what it says of itself, then per shard id, token, items_done, in_flight_first, in_flight_end
-- (both '' without a batch).
-- {state of the run or 'unknown_run', then per shard 'extended', 'lost' or 'cancelled', and a time}
local function beat(keys, args)
  local worker = args[1]
  local run = open_run(keys[1])
  if not run then
    return {'unknown_run'}
  end
  touch_worker(run, worker, args[2])
  local reply = {run.state}
  for index = 3, #args, 5 do
    local answer, expires_at =
      beat_shard(run, worker, args[index], args[index + 1], args[index + 2], args[index + 3], args[index + 4])
    reply[#reply + 1] = answer
    reply[#reply + 1] = expires_at
  end
  return reply
end

-- args: worker, shard, token, part, embedded, failed. 'ok', 'duplicate' or 'lost'.
local function complete(keys, args)
  local worker, id, token, part, embedded, failed = unpack(args)
  local run = open_run(keys[1])
  if not run then
    return 'lost'
  end
  local held, shard = held_by(run, id, worker, token)
  if not held then
    return ended_before(shard, token) == 'completed' and 'duplicate' or 'lost'
  end
  count_items(run, tonumber(embedded) - number_of(held.items_done))
  make_done(run, id, held, part, embedded, failed)
  note_ending(run, id, held, token, 'completed')
  redis.call('HINCRBY', run.keys.worker_items, worker, embedded)
  record_event(run, 'done', id, worker, token)
  return 'ok'
end

local function backoff(run, failures)
  return math.min(run.longest_backoff, run.first_backoff * 2 ^ math.max(0, failures - 1))
end

-- After its failures were counted; 'retry' or 'dead'.
local function delay_or_give_up(run, id, shard)
  local counted = redis.call('HMGET', run.keys.shard(id), 'attempts', 'waived')
  local attempts, waived = number_of(counted[1]), number_of(counted[2])
  if attempts >= run.max_attempts then
    make_dead(run, id, shard)
    return 'dead'
  end
  change_state(run, id, shard, 'delayed', whole(run.now + backoff(run, attempts + waived)))
  return 'retry'
end

-- args: worker, shard, token, kind ('retry', 'host' or 'out_of_memory'), message, and for the last kind
-- item and memory. 'retry', 'dead' or 'lost'.
local function fail(keys, args)
  local worker, id, token, kind, message, item, memory = unpack(args)
  local run = open_run(keys[1])
  if not run then
    return 'lost'
  end
  local held, shard = held_by(run, id, worker, token)
  if not held then
    local how = ended_before(shard, token)
    return (how == 'retry' or how == 'dead') and how or 'lost'
  end
  local key = run.keys.shard(id)
  redis.call('HSET', key, 'message', message)
  record_event(run, 'failed_' .. kind, id, worker, token)
  local how = 'retry'
  if kind == 'host' then
    redis.call('HINCRBY', run.keys.host_failures, worker, 1)
    make_pending(run, id, held)
  elseif kind == 'out_of_memory' then
    count_shortage(run, key, held, worker, item, memory)
    how = delay_or_give_up(run, id, held)
  else
    redis.call('HINCRBY', key, 'attempts', 1)
    how = delay_or_give_up(run, id, held)
  end
  note_ending(run, id, held, token, how)
  return how
end

-- args: worker, shard, token. 'ok' or 'lost'.
local function release(keys, args)
  local worker, id, token = unpack(args)
  local run = open_run(keys[1])
  if not run then
    return 'lost'
  end
  local held, shard = held_by(run, id, worker, token)
  if not held then
    return ended_before(shard, token) == 'released' and 'ok' or 'lost'
  end
  make_pending(run, id, held)
  note_ending(run, id, held, token, 'released')
  record_event(run, 'released', id, worker, token)
  return 'ok'
end

-- Coordinating -------------------------------------------------------------------------------------

local function make_run(keys, args)
  redis.call('HSET', keys.run, 'state', 'running', 'made_at', whole(server_now()),
    'lease_microseconds', args[1], 'max_attempts', args[2], 'max_lost_leases', args[3],
    'first_backoff_microseconds', args[4], 'longest_backoff_microseconds', args[5],
    'host_failures_to_ban', args[6])
end

local function add_shard(keys, id, bundle, items, part, embedded, failed)
  local key = keys.shard(id)
  redis.call('ZADD', keys.shards, id, id)
  if redis.call('EXISTS', key) == 1 then
    return 0
  end
  redis.call('HSET', key, 'bundle', bundle, 'items', items)
  redis.call('HINCRBY', keys.run, 'items_total', items)
  if part == '' then
    redis.call('HSET', key, 'state', 'pending')
    redis.call('ZADD', keys.pending, id, id)
  else
    redis.call('HSET', key, 'state', 'done', 'part', part, 'embedded', embedded, 'failed', failed)
    redis.call('HINCRBY', keys.run, 'items_done', embedded)
    redis.call('HINCRBY', keys.run, 'items_failed', failed)
  end
  return 1
end

-- args: six settings, 'more' or 'last', then per shard id, bundle, items, part, embedded, failed
-- (the last three '' without a part). How many were new; -1 while the run is being forgotten.
-- Until the last batch has come, claims do not take the shards that are there for all there are.
local function add(keys, args)
  keys = keys_of(keys[1])
  if redis.call('HEXISTS', keys.run, 'forgetting') == 1 then
    return -1
  end
  if redis.call('HEXISTS', keys.run, 'state') == 0 then
    make_run(keys, args)
  end
  local new = 0
  for index = 8, #args, 6 do
    new = new + add_shard(keys, args[index], args[index + 1], args[index + 2], args[index + 3],
      args[index + 4], args[index + 5])
  end
  if args[7] == 'more' then
    redis.call('HSET', keys.run, 'adding', '1')
  else
    redis.call('HDEL', keys.run, 'adding')
  end
  return new
end

-- args: per shard id, part, embedded, failed (the last three '' where the store holds none).
-- What the store says wins, whatever lease there is.
local function reconcile(keys, args)
  local run = open_run(keys[1])
  if not run then
    return 'ok'
  end
  for index = 1, #args, 4 do
    local id, part = args[index], args[index + 1]
    local shard = read_hash(run.keys.shard(id))
    if shard and part ~= '' then
      if shard.state ~= 'done' then
        record_event(run, 'found', id)
      end
      make_done(run, id, shard, part, args[index + 2], args[index + 3])
    elseif shard and shard.state == 'done' then
      make_pending(run, id, shard)
      record_event(run, 'gone', id)
    end
  end
  return 'ok'
end

-- args: the new state. 'ok' or 'unknown_run'.
local function set_state(keys, args)
  local run = open_run(keys[1])
  if not run then
    return 'unknown_run'
  end
  redis.call('HSET', run.keys.run, 'state', args[1])
  return 'ok'
end

-- {how many became pending, how many dead ones are left}; to be called until none is left.
local function requeue_dead(keys, args)
  local run = open_run(keys[1])
  if not run then
    return {0, 0}
  end
  local requeued = 0
  for _, id in ipairs(redis.call('ZRANGE', run.keys.dead, 0, SHARDS_PER_STEP - 1)) do
    local shard = read_hash(run.keys.shard(id))
    if shard and shard.state == 'dead' then
      remove_fields(run.keys.shard(id), shard, TROUBLE_FIELDS)
      make_pending(run, id, shard)
      requeued = requeued + 1
    else
      settle(run, id)
    end
  end
  return {requeued, redis.call('ZCARD', run.keys.dead)}
end

-- args: shard. 1 where it was done and is pending now.
local function requeue_done(keys, args)
  local run = open_run(keys[1])
  local shard = run and read_hash(run.keys.shard(args[1]))
  if not shard or shard.state ~= 'done' then
    return 0
  end
  make_pending(run, args[1], shard)
  record_event(run, 'again', args[1])
  return 1
end

-- Removes a bounded number of keys; how many shards and workers are left, to be called until none is.
-- From the first call on the run is not known to anybody. A worker's user has no right to HRANDFIELD, so that the
-- first line keeps it from forgetting a run.
local function forget(keys, args)
  keys = keys_of(keys[1])
  local workers = redis.call('HRANDFIELD', keys.seen, SHARDS_PER_STEP)
  redis.call('HSET', keys.run, 'forgetting', '1')
  for _, id in ipairs(redis.call('ZRANGE', keys.shards, 0, SHARDS_PER_STEP - 1)) do
    redis.call('DEL', keys.shard(id))
    redis.call('ZREM', keys.shards, id)
  end
  for _, worker in ipairs(workers) do
    redis.call('DEL', keys.held(worker))
    redis.call('HDEL', keys.seen, worker)
  end
  for _, worker in ipairs(redis.call('ZRANGE', keys.workers_of_v3, 0, SHARDS_PER_STEP - 1)) do
    redis.call('DEL', keys.held(worker), keys.worker_of_v3(worker))
    redis.call('ZREM', keys.workers_of_v3, worker)
  end
  local left = redis.call('ZCARD', keys.shards) + redis.call('HLEN', keys.seen)
    + redis.call('ZCARD', keys.workers_of_v3)
  if left == 0 then
    redis.call('DEL', keys.pending, keys.leased, keys.delayed, keys.dead, keys.leases, keys.worker_items,
      keys.host_failures, keys.granted, keys.minutes, keys.events, keys.run)
  end
  return left
end

-- args: 'shards' or the name of a set of a state, and a cursor, '0' at first.
-- {the next cursor, '0' at the end, and how many shards were repaired}
local function audit(keys, args)
  local run = open_run(keys[1])
  if not run then
    return {'0', 0}
  end
  local page = redis.call('ZSCAN', run.keys[args[1]], args[2], 'COUNT', SHARDS_PER_STEP)
  local repaired = 0
  for index = 1, #page[2], 2 do
    repaired = repaired + settle(run, page[2][index])
  end
  return {page[1], repaired}
end

-- Showing ------------------------------------------------------------------------------------------

local function append_failures(run, failures, state)
  local left = FAILURES_SHOWN - #failures
  if left == 0 then
    return
  end
  for _, id in ipairs(redis.call('ZRANGE', run.keys[state], 0, left - 1)) do
    local fields = redis.call('HMGET', run.keys.shard(id), 'attempts', 'lost_leases', 'message')
    failures[#failures + 1] = {id, state, fields[1] or '0', fields[2] or '0', fields[3] or ''}
  end
end

-- {} where the run is not known; else {the run's fields, then as field and value of each entry: minutes,
-- workers, their items, their hosts' failures, leases; last the shards that failed}.
-- Reads only, and costs O(workers + leases), some microseconds for each.
local function snapshot(keys, args)
  local run = open_run(keys[1])
  if not run then
    return {}
  end
  local counts = count_shards(run)
  local failures = {}
  append_failures(run, failures, 'dead')
  append_failures(run, failures, 'delayed')
  local fields = {
    run.state, whole(run.now), run.made_at, run.items_total, run.items_done, run.items_failed,
    whole(run.host_failures_to_ban), whole(counts.pending), whole(counts.leased), whole(counts.delayed),
    whole(counts.done), whole(counts.dead),
  }
  local reply = {fields}
  for _, key in ipairs({'minutes', 'seen', 'worker_items', 'host_failures', 'leases'}) do
    reply[#reply + 1] = redis.call('HGETALL', run.keys[key])
  end
  reply[#reply + 1] = failures
  return reply
end

-- The version stands in the names too: functions of two libraries may not share a name. What ends a
-- lease or frees memory runs when memory is short as well.
local function register(name, callback, flags)
  redis.register_function{function_name = 'fleet_v4_' .. name, callback = callback, flags = flags}
end

register('claim', claim, {})
register('beat', beat, {'allow-oom'})
register('complete', complete, {'allow-oom'})
register('fail', fail, {'allow-oom'})
register('release', release, {'allow-oom'})
register('add', add, {})
register('reconcile', reconcile, {'allow-oom'})
register('set_state', set_state, {'allow-oom'})
register('requeue_dead', requeue_dead, {'allow-oom'})
register('requeue_done', requeue_done, {'allow-oom'})
register('forget', forget, {'allow-oom'})
register('audit', audit, {'allow-oom'})
register('snapshot', snapshot, {'no-writes'})
