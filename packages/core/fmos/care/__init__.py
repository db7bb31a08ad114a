"""Care of a home: backup and restore, upgrade, and the doctor's checks."""
