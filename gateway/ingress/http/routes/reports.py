"""Reports: what was sent, and what it cost."""

from __future__ import annotations

from gateway.finance.lines.lines import KINDS
from gateway.ingress.api.campaigns.budgets import BudgetList
from gateway.ingress.api.reports.ledger import LinesView
from gateway.ingress.api.reports.report_shares import EXAMPLE as SHARE_EXAMPLE
from gateway.ingress.api.reports.report_shares import PATH as SHARED_PAGE
from gateway.ingress.api.reports.report_shares import ShareRequest, ShareView
from gateway.ingress.api.reports.reports import COST_PARAMETERS, COST_REPORT, DAYS_AND_FILTERS
from gateway.ingress.http.documented import PAGE, json_payload
from gateway.ingress.http.route import HttpRoute, Parameter, Payload
from gateway.ingress.http.routes.endpoints import Endpoints
from gateway.ingress.pages.report_links import LINES_PAGE, MESSAGES_PAGE, REPORT_PAGE

REPORTS: tuple[HttpRoute[Endpoints], ...] = (
    HttpRoute(
        method="GET",
        path="/v1/reports/cost",
        name="costReport",
        handler=lambda endpoints: endpoints.reports.cost,
        scope="report",
        tag="Reports",
        summary="What was sent and delivered, and what it cost",
        text="All amounts are exact decimal strings and add up to the ledger. The "
        "scope `report` shows the key's own app, `report-all` every app.",
        parameters=COST_PARAMETERS,
        answers={200: COST_REPORT},
        problems=[400, 422],
    ),
    HttpRoute(
        method="GET",
        path="/v1/budgets",
        name="listBudgets",
        handler=lambda endpoints: endpoints.budgets.every,
        scope="report-all",
        tag="Reports",
        summary="What may be spent, and what is left of it",
        text="The budgets of the configuration, in its order. What is reserved for messages that "
        "are not final counts as used.",
        answers={200: json_payload("They.", BudgetList)},
    ),
    HttpRoute(
        method="GET",
        path="/v1/ledger",
        name="ledgerLines",
        handler=lambda endpoints: endpoints.ledger.lines,
        scope="report",
        tag="Reports",
        summary="The lines behind a report's amounts",
        text="Under the same days and filters `cost`, `adjust` and `reverse` add up to the "
        "report's `cost`, and `bill` to its `billed`. A page may be short or empty and still have "
        "`next`: go on until that is null.",
        parameters=(
            *DAYS_AND_FILTERS,
            Parameter(
                "kind", "query", "Only this kind. Several times: any of these.", {"enum": KINDS}
            ),
            *PAGE,
        ),
        answers={200: json_payload("A page.", LinesView)},
        problems=[400, 422],
    ),
    HttpRoute(
        method="POST",
        path="/v1/reports/shares",
        name="shareReport",
        handler=lambda endpoints: endpoints.report_shares.make,
        scope="report",
        tag="Reports",
        summary="A read-only link to one report",
        text="Who has the link needs no key and sees the page of this one report, as the key that "
        "made it may see it, until `expires_at`. Days that are left out are fixed as of now. It "
        "is told once.",
        body=Payload(
            media={"application/json": ShareRequest}, examples={"application/json": SHARE_EXAMPLE}
        ),
        answers={200: json_payload("The link.", ShareView)},
        problems=[422],
    ),
    HttpRoute(
        method="GET",
        path=SHARED_PAGE + "/{secret}",
        name="sharedReport",
        handler=lambda endpoints: endpoints.report_shares.show,
    ),
    HttpRoute(
        method="GET",
        path=REPORT_PAGE,
        name="reportPage",
        on_admin_port="too",
        handler=lambda endpoints: endpoints.reports.page,
        scope="report",
        login=True,
    ),
    HttpRoute(
        method="GET",
        path=LINES_PAGE,
        name="linesPage",
        handler=lambda endpoints: endpoints.report_details.lines,
        scope="report",
        login=True,
    ),
    HttpRoute(
        method="GET",
        path=MESSAGES_PAGE,
        name="countedMessagesPage",
        handler=lambda endpoints: endpoints.report_details.messages,
        scope="report",
        login=True,
    ),
    HttpRoute(
        method="GET",
        path=f"{MESSAGES_PAGE}/{{id}}",
        name="messagePage",
        handler=lambda endpoints: endpoints.report_details.message,
        scope="report",
        login=True,
    ),
)
