"""Traffic as clients make it: requests sent at given times, streamed, and measured where they arrive."""
