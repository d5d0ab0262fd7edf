-- What wrk asks for, and what it tells in the end.
--
--     wrk ... -s bench/teas.lua URL KIND TEAS PREFIX FIRST
--
-- KIND    strong, weak, write, or mix: a write and a strong read in turn
-- TEAS    how many there are; they are called PREFIX-0, PREFIX-1 ...
-- FIRST   the count of the first write's clock; each write has one more, so that all are newer than what is stored
--
-- Teas come in strides, so that a short run sees all parts of many, and the same one again only after all the others:
-- two writes to a tea are never on their way together, where the later one could overtake the earlier one.

local STRIDE = 7919 -- prime, so that it visits all

function init(arguments)
   kind, teas, prefix, count = arguments[1], tonumber(arguments[2]), arguments[3], tonumber(arguments[4])
   number = 0
   json = { ["Content-Type"] = "application/json" }
end

function path()
   return "/rating/" .. prefix .. "-" .. (number * STRIDE) % teas
end

function write()
   count = count + 1
   local body = string.format('{"rating": %d, "clock": {"bench": %.0f}}', count % 5, count)
   return wrk.format("PUT", path(), json, body)
end

function request()
   number = number + 1
   local is_even = (number + math.floor(number / teas)) % 2 == 0 -- each tea is written in one round, read in the next
   if kind == "write" or (kind == "mix" and is_even) then
      return write()
   elseif kind == "weak" then
      return wrk.format("GET", path() .. "?consistency=weak")
   end
   return wrk.format("GET", path())
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "duration_us": %d, "p50_us": %.0f, "p99_us": %.0f, "max_us": %.0f,'
         .. ' "connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
      errors.connect, errors.read, errors.write, errors.status, errors.timeout
   ))
end
