"""A Supabase for this machine, without Docker: PostgreSQL, PostgREST, and our own Auth and Realtime."""
