from hypothesis import settings

# A busy machine is no fault of what is tested.
settings.register_profile("untimed", deadline=None, max_examples=60)
settings.load_profile("untimed")
