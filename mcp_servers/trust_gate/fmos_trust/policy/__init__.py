"""Trust policies: declarative rules, compiled once, and judged for each call.

`compiled` is a set of rules ready to be asked, `decision` what comes of them for one call,
`judge` the gate's judge over a home, and `dry_run` what another set would have decided.
"""
