SELECT signal, count(*) AS operations, count(*) FILTER (decision = 'deny') AS denied,
    count(*) FILTER (decision = 'ask') AS asked
FROM (SELECT *, unnest(signals) AS signal FROM calls) GROUP BY ALL ORDER BY operations DESC, signal
