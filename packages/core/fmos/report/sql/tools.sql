SELECT kind, name, count(latency_ms) AS calls, round(quantile_cont(latency_ms, 0.5), 2) AS p50_ms,
    round(quantile_cont(latency_ms, 0.95), 2) AS p95_ms, round(max(latency_ms), 2) AS max_ms,
    count(*) FILTER (status = 'failed') AS failed
FROM calls GROUP BY ALL HAVING count(latency_ms) > 0 ORDER BY calls DESC, kind, name
