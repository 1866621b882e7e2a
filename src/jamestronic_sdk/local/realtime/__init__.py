"""A Realtime server that speaks the Phoenix protocol of Supabase, over logical replication."""
