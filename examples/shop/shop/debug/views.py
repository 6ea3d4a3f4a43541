"""`GET /debug/events?since=<number>` lists the events of this worker process, `DELETE` forgets them."""

import dataclasses
import os

from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from shop.debug.record import events as recorded


@csrf_exempt
@require_http_methods(["GET", "DELETE"])
async def events(request: HttpRequest) -> JsonResponse:
    if request.method == "DELETE":
        recorded.clear()
    since = int(request.GET.get("since", "0"))
    found = [dataclasses.asdict(record) for record in list(recorded) if record.number > since]
    return JsonResponse({"pid": os.getpid(), "events": found})
