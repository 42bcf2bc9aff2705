"""The request bodies of reports, and their rate limit, which the API and the pages share."""

from typing import Annotated

from pydantic import Field

from registry.reports import report
from registry.web.parsing import Body
from registry.web.route import Limit

MAX_TEXT = 5000
PACKAGE_REPORTS = Limit("package_report", "50/hour")


class ReportRequest(Body):
    """What is wrong with a package."""

    kind: report.Kind
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]


class ReportChange(Body):
    """Whether the report is closed."""

    closed: bool
