"""Fixtures of the contract tests."""

from __future__ import annotations

from conftest_stacks import local_supabase, untouched_supabase

__all__ = ["local_supabase", "untouched_supabase"]
