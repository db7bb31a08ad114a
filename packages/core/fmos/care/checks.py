"""All checks of the doctor, in the order in which they are made and shown."""

from __future__ import annotations

from fmos.care import checks_documents, checks_home, checks_host, checks_stores, checks_work

CHECKS = (
    *checks_home.CHECKS,
    *checks_stores.CHECKS,
    *checks_work.CHECKS,
    *checks_documents.CHECKS,
    *checks_host.CHECKS,
)
