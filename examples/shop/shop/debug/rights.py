"""What a user may, as a handler sees it: with SHOP_DEBUG_RIGHTS=1 each event's record has it."""

from typing import Any

from shop.debug.record import current

PERMISSION = "shop.change_product"
_FIELDS = ("first_name", "last_name", "email", "is_active", "is_staff", "is_superuser")


def rights_of(user: Any) -> dict[str, Any]:
    """Fields and one permission; its queries are none of the event's."""
    running = current.set(None)
    try:
        rights = {name: getattr(user, name, None) for name in _FIELDS}
        name = user.get_username() if user.is_authenticated else "anonymous"
        return {"name": name, **rights, "has_perm": user.has_perm(PERMISSION)}
    finally:
        current.reset(running)
