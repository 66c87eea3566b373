"""The predictive law in the agent: learns the step-time model that the plug-in plans with."""
