from devstack.opik.http import Routes
from devstack.opik.faults import Faults
def page_routes(faults: Faults) -> Routes:
    return Routes()
