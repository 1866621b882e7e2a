"""An Auth server that speaks what Supabase clients expect, over the `auth` schema."""
