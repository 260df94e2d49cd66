"""How well the gateway chooses tiers: labelled requests, baselines, a table for the docs."""
