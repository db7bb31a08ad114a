"""Stands in for detect-secrets, which the tests do not install; finds nothing."""
