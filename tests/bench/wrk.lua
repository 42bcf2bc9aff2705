-- Asks the paths of a file (WRK_PATHS) by turns and prints one JSON line in the end.
local paths = {}
for path in io.lines(os.getenv("WRK_PATHS")) do
  paths[#paths + 1] = path
end
local at = 0

request = function()
  at = at % #paths + 1
  return wrk.format(nil, paths[at])
end

done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "bytes": %d, "failed": %d, "p50_ms": %.3f, "p95_ms": %.3f}\n',
    summary.requests, summary.duration / 1e6, summary.bytes,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3))
end
