"""WAIT and Nested WAIT (arXiv 2504.11320): admission thresholds from the fluid benchmark of a batching engine.

Experimental. WAIT gathers requests of a type until a threshold is reached and then admits them together; Nested WAIT,
which needs no output lengths, lets survivors gather again at segment boundaries of the decode. The thresholds are
computed here, from estimated rates and survival; the plug-in holds and parks.
"""
