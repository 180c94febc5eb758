"""Clips that cannot be read."""


class BadClips:
    """Called with a place and what is wrong there: raises ValueError, or, where skipping is allowed, prints and counts.

    hint: the option that allows it.
    """

    def __init__(self, skip, hint="--skip-bad leaves such clips out"):
        self.skip, self.hint, self.count = skip, hint, 0

    def __call__(self, place, error):
        if not self.skip:
            raise ValueError(f"{place}: {error} ({self.hint})") from None
        self.count += 1
        print(f"skipped {place}: {error}")

    def report(self):
        """Say how many were left out, if any."""
        if self.count:
            print(f"{self.count} clips were left out")
