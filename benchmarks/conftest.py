"""Benchmarks run on the same stacks as the contract tests."""

from __future__ import annotations

from conftest_stacks import local_supabase

__all__ = ["local_supabase"]
