"""With SHOP_DEBUG=1: what each event met in Python, readable at /debug/events. Tests and benches only."""
