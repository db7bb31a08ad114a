SELECT count(*) AS operations, count(*) FILTER (decision = 'deny') AS denied,
    count(*) FILTER (decision = 'ask') AS asked, count(*) FILTER (status = 'failed') AS failed,
    count(*) FILTER (decision = 'allow' AND status IS NULL) AS without_outcome,
    count(*) FILTER (len(signals) > 0) AS trapped_by_signal,
    round(100.0 * count(*) FILTER (fast) / greatest(1, count(*)), 1) AS fast_path_pct,
    count(DISTINCT (tenant, application, agent)) AS agents,
    count(DISTINCT (tenant, application, agent, session)) AS sessions
FROM calls
