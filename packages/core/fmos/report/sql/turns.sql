-- A turn begins with the admission of a model call and ends with the last that is known before the
-- next one. Its error budget is the share of turns that may take longer than the contract says.
WITH numbered AS (
    SELECT tenant, application, agent, session, time_ns, ended_ns, count(*) FILTER (kind = 'model.generate') OVER (
        PARTITION BY tenant, application, agent, session ORDER BY seq) AS turn
    FROM calls
), turns AS (
    SELECT tenant, application, agent, session, turn,
        (max(ended_ns) - min(time_ns)) / 1e6 AS took_ms
    FROM numbered WHERE turn > 0 GROUP BY ALL
)
SELECT tenant, t.agent, count(*) AS turns, any_value(turn_ms) AS turn_ms,
    round(quantile_cont(took_ms, 0.5), 1) AS p50_ms,
    round(quantile_cont(took_ms, 0.95), 1) AS p95_ms,
    round(100.0 * count(*) FILTER (took_ms <= turn_ms) / nullif(count(turn_ms), 0), 1)
        AS within_pct,
    round(100.0 * count(*) FILTER (took_ms > turn_ms)
        / nullif(count(turn_ms) * (1 - $objective), 0), 1) AS error_budget_used_pct
FROM turns t LEFT JOIN slo s ON s.agent = t.agent
GROUP BY tenant, t.agent ORDER BY tenant, t.agent
