SELECT reason, decision, count(*) AS operations, count(DISTINCT (tenant, agent)) AS agents,
    mode(name) AS mostly FROM reasoned
WHERE decision IN ('deny', 'ask') GROUP BY ALL ORDER BY operations DESC, reason, decision
