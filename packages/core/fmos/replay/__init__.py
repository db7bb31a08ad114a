"""What a session did: recorded as it happens, shown from the volume alone, and run again."""
