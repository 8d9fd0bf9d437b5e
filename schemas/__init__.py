"""The contract: every event and topic that crosses a process border; imports pydantic and the standard library only."""
