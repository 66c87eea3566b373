"""Laws: pure rules from what is seen of the engine to bounds, one module each; guards wrap them."""
