"""The Django project that both deployments of the demo run."""
