SELECT tenant, agent, count(*) AS operations, count(*) FILTER (decision = 'deny') AS denied,
    count(*) FILTER (decision = 'ask') AS asked, count(*) FILTER (status = 'failed') AS failed,
    round(100.0 * count(*) FILTER (fast) / count(*), 1) AS fast_path_pct,
    round(quantile_cont(latency_ms, 0.5), 2) AS p50_ms,
    round(quantile_cont(latency_ms, 0.95), 2) AS p95_ms
FROM calls GROUP BY ALL ORDER BY operations DESC, tenant, agent
