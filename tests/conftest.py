import os

from hypothesis import HealthCheck, settings

# On a slow machine an example may take long; what is drawn must not depend on the day it runs where a commit is judged.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
