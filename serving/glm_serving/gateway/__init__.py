"""The gateway: relay, facts, decision, holding."""
