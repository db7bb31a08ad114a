"""Who asked for a call, the user or a stranger's text: evidence without a model.

`SessionEvidence` observes and judges; `Catalogue` holds what tool schemas say. Pure and in memory.
"""

from fmos_trust.evidence.catalogue import Catalogue
from fmos_trust.evidence.session import Evidence, SessionEvidence

__all__ = ["Catalogue", "Evidence", "SessionEvidence"]
