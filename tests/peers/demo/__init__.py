"""``make demo``: what Remediator does, on this machine, in front of your eyes."""
