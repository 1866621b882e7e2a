"""``python -m examples.dashboard``, or ``python examples/dashboard`` from anywhere."""

import runpy
import sys
from pathlib import Path

if not __package__:
    # Run as a folder, Python knows the modules beside this file but not the package that they are in.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    runpy.run_module("dashboard", run_name="__main__", alter_sys=True)
else:
    try:
        from .main import run
    except ModuleNotFoundError as error:
        if error.name not in {"starlette", "uvicorn"}:
            raise
        sys.exit(f"error: {error.name} is missing. Run: pip install 'jamestronic_sdk[dashboard,local]'")
    run()
