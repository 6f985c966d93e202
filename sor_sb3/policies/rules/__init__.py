"""Rules: routers that see what any router sees."""
