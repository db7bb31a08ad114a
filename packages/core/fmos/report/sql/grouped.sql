SELECT {named}, count(*) AS operations, count(*) FILTER (decision = 'deny') AS denied,
    count(*) FILTER (decision = 'ask') AS asked, count(*) FILTER (status = 'failed') AS failed,
    round(100.0 * count(*) FILTER (fast) / count(*), 1) AS fast_path_pct,
    round(quantile_cont(latency_ms, 0.5), 2) AS p50_ms,
    round(quantile_cont(latency_ms, 0.95), 2) AS p95_ms,
    coalesce(sum((usage->>'$.tokens')::BIGINT), 0)::BIGINT AS tokens,
    coalesce(sum((usage->>'$.currency')::BIGINT), 0)::BIGINT AS currency_micro
FROM {calls} GROUP BY {places} ORDER BY {places}
