"""What every test shares."""

from hypothesis import settings

# A loaded machine is no failure: no test here asserts a time. Derandomised: a red run can be repeated.
settings.register_profile("mrnn", deadline=None, derandomize=True)
settings.load_profile("mrnn")
