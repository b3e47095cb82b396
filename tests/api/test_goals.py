"""POST, GET, list, cancel of goals, as a backend service calls them."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from db.pool import Pool, acquire
from domain.runs import pseudonym
from tests_api import Runs  # placeholder
