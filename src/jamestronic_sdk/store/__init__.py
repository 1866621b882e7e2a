"""The live, role-scoped view of tickets: a pure engine, one driver, one face."""
