"""placeholder"""
from devstack.opik.http import Routes
routes = Routes("/v1/private")
