from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpResponseRedirect


def mark_full_chain(get_response):
    """Tells a handler that the whole chain of Django's middleware ran for it."""
    assert iscoroutinefunction(get_response)

    async def middleware(request):
        request.full_chain = True
        if "HTTP_X_MOVED" in request.META:
            return HttpResponseRedirect("/here")
        return await get_response(request)

    markcoroutinefunction(middleware)
    return middleware


mark_full_chain.async_capable = True
mark_full_chain.sync_capable = False
