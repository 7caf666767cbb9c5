"""Settings for deployments that tests run as processes of their own; the environment names the node."""

import os

from tests.project.settings import *  # noqa: F403  all of them, but for the name

SYNCHRO_NODE = os.environ["SYNCHRO_TEST_NODE"]
