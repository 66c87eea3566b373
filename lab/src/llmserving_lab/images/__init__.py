"""The images of the demo and the tests: built without an engine or a registry, loaded into a cluster."""
