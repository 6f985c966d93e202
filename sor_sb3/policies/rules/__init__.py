"""Rules: routers that read observations only. The registry finds every `Router` defined in a module of this folder."""
