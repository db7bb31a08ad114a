-- One row per operation. What asked again under the same id, as after an approval, is another row;
-- the outcome belongs to the last one that was allowed.
CREATE TABLE calls AS
WITH placed AS (
    SELECT *, row_number() OVER (PARTITION BY tenant, id
        ORDER BY decision IN ('allow', 'transform') DESC, seq DESC) AS place
    FROM intent
), ended AS (
    SELECT tenant, id, min(seq) AS seq, arg_min(time_ns, seq) AS time_ns,
        arg_min(status, seq) AS status, arg_min(duration_ms, seq) AS duration_ms,
        arg_min(usage, seq) AS usage
    FROM outcome GROUP BY tenant, id
)
SELECT p.tenant, coalesce(p.application, '') AS application, p.agent,
    coalesce(p.session, '') AS session, p.seq, p.time_ns,
    make_timestamp_ns(p.time_ns)::DATE AS day, p.id, p.kind, p.name, p.decision, p.reasons,
    p.signals, p.policy,
    list_contains(p.reasons, 'trap.innocuous') AS fast, e.status,
    CASE WHEN e.duration_ms > 0 THEN e.duration_ms
        WHEN e.time_ns IS NOT NULL AND NOT list_contains(p.reasons, 'trap.innocuous')
        THEN (e.time_ns - p.time_ns) / 1e6 END AS latency_ms,
    coalesce(e.time_ns, p.time_ns) AS ended_ns,
    coalesce(e.usage, '{}'::JSON) AS usage
FROM placed p LEFT JOIN ended e ON e.tenant = p.tenant AND e.id = p.id AND p.place = 1
    AND p.decision IN ('allow', 'transform');

-- What calls spent, by resource: what outcomes say, and one tool call each.
CREATE VIEW spent AS
SELECT tenant, application, agent, session, day, kind, name, resource,
    (usage->>('$.' || resource))::BIGINT AS amount
FROM (SELECT *, unnest(json_keys(usage)) AS resource FROM calls WHERE usage <> '{}')
UNION ALL
SELECT tenant, application, agent, session, day, kind, name, 'tool_calls', 1 FROM calls
WHERE kind IN ('tool.call', 'fs.read', 'fs.write', 'message.send')
    AND decision IN ('allow', 'transform');

CREATE VIEW reasoned AS SELECT *, unnest(reasons) AS reason FROM calls;
