"""The app's own resolver, which keeps its place behind the rules."""


def own_resolver(state_class, event):
    if event.name.endswith(".by_resolver"):
        return "auth_only"
    if event.name.endswith(".by_broken_resolver"):
        raise RuntimeError("the app's resolver is broken")
    return None
