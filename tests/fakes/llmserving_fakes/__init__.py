"""What tests of several tiers share and no user needs."""
