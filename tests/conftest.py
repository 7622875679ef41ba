from os import environ

from hypothesis import settings

# A busy machine is no fault of what is tested.
settings.register_profile("untimed", deadline=None, max_examples=60)
settings.register_profile("nightly", deadline=None, max_examples=20_000, print_blob=True)
settings.load_profile(environ.get("HYPOTHESIS_PROFILE", "untimed"))
