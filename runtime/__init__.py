"""The engine: it claims steps and effects, performs them, and wakes what sleeps."""
