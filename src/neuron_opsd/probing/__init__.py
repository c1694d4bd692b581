"""Which signals make the best teacher on a pool, before anything is trained."""
