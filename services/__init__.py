"""The services of Steward; each is a slice that knows schemas, core and runtime, and no other slice."""
