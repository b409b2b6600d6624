"""Reports: what was sent, and what it cost."""

from __future__ import annotations

from gateway.ingress.api.budgets import BudgetList
from gateway.ingress.api.reports import COST_PARAMETERS, COST_REPORT
from gateway.ingress.http.documented import json_payload
from gateway.ingress.http.route import HttpRoute
from gateway.ingress.http.routes.endpoints import Endpoints
from gateway.ingress.pages.reports import PATH as REPORT_PAGE

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
        path=REPORT_PAGE,
        name="reportPage",
        handler=lambda endpoints: endpoints.reports.page,
        scope="report",
        login=True,
    ),
)
