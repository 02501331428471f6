"""Quality gates: what must hold before a run may publish.

measuring ─► what went in and came out, as numbers ─► asking: the gates, a range each ─► judging by Great Expectations
"""
