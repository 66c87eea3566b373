"""The LLMServing resource, the formats between its parts, and the names they share."""
