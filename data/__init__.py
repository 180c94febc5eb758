"""Readers of the published data sets, and the command line that turns them into stores."""
