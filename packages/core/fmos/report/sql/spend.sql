SELECT tenant, agent, resource, sum(amount)::BIGINT AS amount FROM spent
GROUP BY ALL ORDER BY tenant, agent, resource
