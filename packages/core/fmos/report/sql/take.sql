-- A batch of journal rows, its details read once. A memory's write has rows of its own kind.
CREATE OR REPLACE TEMP TABLE batch AS
SELECT tenant, seq, time_ns, operation, string_split(principal, '/') AS who,
    from_json(detail, '{"id": "VARCHAR", "kind": "VARCHAR", "name": "VARCHAR",
        "decision": "VARCHAR", "reasons": ["VARCHAR"], "signals": ["VARCHAR"], "policy": "VARCHAR",
        "status": "VARCHAR", "duration_ms": "DOUBLE", "usage": "JSON", "memory": "VARCHAR",
        "namespace": "VARCHAR", "phase": "VARCHAR", "labels": ["VARCHAR"]}') AS d
FROM staged;

INSERT INTO intent
SELECT tenant, nullif(who[2], '-'), who[3], nullif(who[4], '-'), seq, time_ns,
    coalesce(d.id, d.memory), if(operation = 'op.intent', d.kind, operation),
    if(operation = 'op.intent', d.name, d.namespace), coalesce(d.decision, 'allow'),
    coalesce(d.reasons, []), list_distinct(coalesce(d.signals, []) || list_transform(
        list_filter(coalesce(d.labels, []), lambda label: starts_with(label, 'signal:')),
        lambda label: label[8:])), coalesce(d.policy, '')
FROM batch WHERE operation = 'op.intent' OR d.phase = 'intent';

INSERT INTO outcome
SELECT tenant, coalesce(d.id, d.memory), seq, time_ns,
    coalesce(d.status, if(d.phase = 'done', 'ok', 'failed')), coalesce(d.duration_ms, 0),
    if(operation = 'memory.write', if(d.phase = 'done', '{"memory_writes": 1}', '{}'),
        coalesce(d.usage, '{}'))::JSON
FROM batch WHERE operation = 'op.outcome' OR d.phase IN ('done', 'failed');
