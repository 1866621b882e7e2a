"""A form for new repairs on a company's website, as a Django application in one file.

Visitors have no account: the website signs in as a member of staff, so row level security binds it, too.
One client per process, made at the first request.

    eval "$(jamestronic local env)"
    export JT_EMAIL=ada@jamestronic.test JT_PASSWORD=demo-password
    python examples/web_django.py runserver
"""
# Django ships no types:
# mypy: disable-error-code="import-untyped,untyped-decorator"
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import atexit
import os
import secrets
import sys
from functools import cache
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

from jamestronic_sdk import InvalidInputError, JamesTronicError, TicketPriority
from jamestronic_sdk.blocking import JamesTronic

if TYPE_CHECKING:
    from django.http import HttpRequest

settings.configure(
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY") or secrets.token_urlsafe(),
    ALLOWED_HOSTS=["localhost", "127.0.0.1", "testserver"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware", "django.middleware.common.CommonMiddleware"],
)


@cache
def office() -> JamesTronic:
    """The process's client, signed in; closed when the process ends."""
    jt = JamesTronic.from_env(timeout=10).__enter__()
    atexit.register(jt.close)
    jt.auth.sign_in(email=os.environ["JT_EMAIL"], password=os.environ["JT_PASSWORD"])
    return jt


@require_POST
def report(request: HttpRequest) -> JsonResponse:
    """Open a ticket; the answer tells the visitor the number."""
    try:
        ticket = office().tickets.create(
            title=request.POST.get("title", ""),
            description=request.POST.get("description", ""),
            priority=TicketPriority.NORMAL,
        )
    except InvalidInputError as error:  # a field is empty or too long; nothing was sent
        return JsonResponse({"error": str(error)}, status=400)
    except JamesTronicError:
        return JsonResponse({"error": "Please try again in a moment."}, status=503)
    return JsonResponse({"number": ticket.label}, status=201)


urlpatterns = [path("report", report)]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
