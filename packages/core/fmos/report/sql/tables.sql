-- Rows as they are read; `calls` is made of them once all are there.
CREATE TABLE intent(
    tenant VARCHAR, application VARCHAR, agent VARCHAR, session VARCHAR, seq BIGINT, time_ns BIGINT,
    id VARCHAR, kind VARCHAR, name VARCHAR, decision VARCHAR, reasons VARCHAR[], signals VARCHAR[],
    policy VARCHAR
);
CREATE TABLE outcome(
    tenant VARCHAR, id VARCHAR, seq BIGINT, time_ns BIGINT, status VARCHAR, duration_ms DOUBLE,
    usage JSON
);
CREATE TABLE slo(agent VARCHAR, turn_ms DOUBLE);
