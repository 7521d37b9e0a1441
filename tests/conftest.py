import os
import signal

from hypothesis import HealthCheck, Phase, settings

# A shell lets the programs that it starts in the background ignore Ctrl-C. The tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Examples may take as long as they like on a slow machine. Where a commit is judged, what is drawn must not depend on
# the day; where faults are planted, nobody reads the smallest example.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.register_profile("faults", settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate])
settings.load_profile("ci" if os.environ.get("CI") else "default")
