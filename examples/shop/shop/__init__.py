"""The example shop: a Django app (models, admin) and a Reflex app (states, pages) in one package."""
