"""Infobip's official client library against the simulator: it sends, and reads all answers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from providers.simulator import Knobs, Settings, child
from tests.worlds import template
from tests.worlds.lazily import Lazily
from tests.worlds.simulator_webhook import Webhook, call

if TYPE_CHECKING:
    import infobip_api_client as sdk
else:
    sdk = Lazily("infobip_api_client")  # its 900 models are made in two seconds

# The library keeps the content's type as text where its own model says enumeration.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")

KNOBS = Knobs(
    answer_ms_min=0,
    answer_ms_max=0,
    receipt_ms_min=60_000,
    receipt_ms_max=60_000,
    viber_share=1.0,
    viber_delivered=1.0,
    viber_undelivered=0.0,
    seen_share=1.0,
)
PHONE = "79160000001"
LINK = "https://example.com/picture.png"


@pytest.fixture(scope="module")
def simulator() -> Iterator[child.Child]:
    with template.simulation(Settings(knobs=KNOBS)) as running:
        yield running


@pytest.fixture(scope="module")
def listener() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.close()


@pytest.fixture
def webhook(simulator: child.Child, listener: Webhook) -> Webhook:
    simulator.reset()
    listener.forget()
    return listener


@pytest.fixture
def client(simulator: child.Child) -> Iterator[sdk.ApiClient]:
    configuration = sdk.Configuration(host=simulator.base_url, api_key=simulator.api_key)
    with sdk.ApiClient(configuration) as client:
        yield client
        client.rest_client.pool_manager.clear()


def test_who_only_collects_tests_loads_no_library() -> None:
    library = Lazily("this")  # a module that nobody has loaded
    assert getattr(library, "_mock_name", None) is None
    assert "this" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        Lazily("no_such_library")


def button() -> sdk.models.ViberButton:
    return sdk.models.ViberButton(title="Open", action="https://example.com")


VIBER_CONTENTS: dict[str, Callable[[], Any]] = {
    "text": lambda: sdk.models.ViberOutboundTextContent(text="Hello", button=button()),
    "image": lambda: sdk.models.ViberOutboundImageContent(
        text="Look", media_url=LINK, button=button()
    ),
    "video": lambda: sdk.models.ViberOutboundVideoContent(
        media_url=LINK, media_duration="PT5S", thumbnail_url=LINK
    ),
    "file": lambda: sdk.models.ViberOutboundFileContent(file_name="a.pdf", media_url=LINK),
    "list": lambda: sdk.models.ViberOutboundListContent(text="Choose", options=["one", "two"]),
    "carousel": lambda: sdk.models.ViberOutboundCarouselContent(
        text="Slide",
        cards=[sdk.models.ViberCarouselCard(text="Card", media_url=LINK, buttons=[])] * 2,
    ),
    "otp": lambda: sdk.models.ViberOutboundOtpTemplateContent(id="1", parameters={"pin": "1234"}),
}


def viber_request(content: Any, webhook: Webhook) -> sdk.models.ViberRequest:
    return sdk.models.ViberRequest(
        messages=[
            sdk.models.ViberMessage(
                sender="Shop",
                destinations=[sdk.models.ViberToDestination(to=PHONE, message_id="m")],
                content=content,
                options=sdk.models.ViberMessageOptions(
                    platform=sdk.models.Platform(entity_id="e", application_id="a"),
                    validity_period=sdk.models.ValidityPeriod(amount=900, time_unit="SECONDS"),
                    campaign_reference_id="autumn",
                    label="PROMOTIONAL",
                ),
                webhooks=sdk.models.ViberWebhooks(
                    delivery=sdk.models.ViberMessageDeliveryReporting(
                        url=webhook.url + "/delivery", intermediate_report=True
                    ),
                    seen=sdk.models.ViberSeenStatusReporting(url=webhook.url + "/seen"),
                    callback_data="echo",
                ),
            )
        ]
    )


def sms_request(content: Any, webhook: Webhook) -> sdk.models.SmsRequest:
    return sdk.models.SmsRequest(
        messages=[
            sdk.models.SmsMessage(
                sender="Shop",
                destinations=[sdk.models.SmsDestination(to=PHONE, message_id="m")],
                content=sdk.models.SmsMessageContent(content),
                options=sdk.models.SmsMessageOptions(
                    validity_period=sdk.models.ValidityPeriod(amount=24, time_unit="HOURS")
                ),
                webhooks=sdk.models.SmsWebhooks(
                    delivery=sdk.models.SmsMessageDeliveryReporting(url=webhook.url + "/delivery"),
                    callback_data="echo",
                ),
            )
        ],
        options=sdk.models.SmsMessageRequestOptions(include_sms_count_in_response=True),
    )


def known(model: Any, shape: dict[str, Any]) -> Any:
    """Parses a shape, and fails on a key the library does not know, which it would only ignore."""
    parsed = model.from_dict(shape)
    names = {field.alias or name for name, field in model.model_fields.items()}
    assert set(shape) <= names, set(shape) - names
    return parsed


@pytest.mark.parametrize("kind", VIBER_CONTENTS)
def test_every_kind_of_viber_message_is_accepted(
    client: sdk.ApiClient, webhook: Webhook, kind: str
) -> None:
    request = viber_request(VIBER_CONTENTS[kind](), webhook)
    answer = sdk.ViberApi(client).send_viber_messages(request)
    assert answer.messages[0].message_id == "m"
    assert answer.messages[0].status.name == "PENDING_ACCEPTED"


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: sdk.models.SmsTextContent(text="я" * 71), 2),
        (lambda: sdk.models.SmsBinaryContent(hex="0f c2 4a", data_coding=0, esm_class=0), 1),
    ],
    ids=["text", "binary"],
)
def test_every_kind_of_sms_is_accepted(
    client: sdk.ApiClient, webhook: Webhook, make: Callable[[], Any], parts: int
) -> None:
    answer = sdk.SmsApi(client).send_sms_messages(sms_request(make(), webhook))
    assert answer.messages[0].status.name == "PENDING_ACCEPTED"
    assert answer.messages[0].details.message_count == parts


@pytest.mark.parametrize(
    ("ending", "status", "error"),
    [
        ("delivered", "DELIVERED_TO_HANDSET", "NO_ERROR"),
        ("undelivered", "UNDELIVERABLE_NOT_DELIVERED", "EC_BLOCKED_USER"),
        ("expired", "EXPIRED_EXPIRED", "EC_VALIDITY_EXPIRED"),
    ],
)
def test_viber_reports_are_the_librarys(
    client: sdk.ApiClient,
    simulator: child.Child,
    webhook: Webhook,
    ending: str,
    status: str,
    error: str,
) -> None:
    # Nothing is pushed before the flush: two POSTs at once may come in either order.
    simulator.turn(by_phone={PHONE: {"viber": {"ending": ending, "seen": True}}}, flush_ms=60_000)
    sdk.ViberApi(client).send_viber_messages(viber_request(VIBER_CONTENTS["text"](), webhook))
    simulator.flush(everything=True)
    reports = [
        known(sdk.models.ViberWebhookReport, shape) for shape in webhook.results("/delivery")
    ]
    assert [report.status.name for report in reports] == ["PENDING_ENROUTE", status]
    assert reports[1].error.name == error
    assert reports[1].callback_data == "echo"
    assert reports[1].campaign_reference_id == "autumn"
    assert reports[1].platform.entity_id == "e"
    assert reports[1].price.price_per_message == 0.01
    seen = [known(sdk.models.ViberSeenReport, shape) for shape in webhook.results("/seen")]
    assert [report.message_id for report in seen] == (["m"] if ending == "delivered" else [])
    assert all(report.application_id == "a" for report in seen)


def test_sms_reports_logs_and_pulled_reports_are_the_librarys(
    client: sdk.ApiClient, simulator: child.Child, webhook: Webhook
) -> None:
    api = sdk.SmsApi(client)
    simulator.turn(by_phone={PHONE: {"sms": {"ending": "undelivered"}}})
    api.send_sms_messages(sms_request(sdk.models.SmsTextContent(text="я" * 71), webhook))
    [early_log] = api.get_outbound_sms_message_logs(message_id=["m", "other"]).results
    assert (early_log.status.name, early_log.done_at) == ("PENDING_ENROUTE", None)
    simulator.flush(everything=True)
    [report] = [
        known(sdk.models.SmsDeliveryReport, shape) for shape in webhook.results("/delivery")
    ]
    assert (report.message_count, report.error.name) == (2, "EC_ABSENT_SUBSCRIBER")
    assert report.done_at >= report.sent_at
    [log] = api.get_outbound_sms_message_logs(message_id=["m"]).results
    assert log.done_at == report.done_at
    [pulled] = api.get_outbound_sms_message_delivery_reports(message_id="m").results
    assert pulled == report
    [shape] = call(simulator.port, "GET", "/sms/3/logs?messageId=m").json["results"]
    known(sdk.models.SmsLog, shape)


def test_viber_logs_are_the_librarys(
    client: sdk.ApiClient, simulator: child.Child, webhook: Webhook
) -> None:
    api = sdk.ViberApi(client)
    api.send_viber_messages(viber_request(VIBER_CONTENTS["text"](), webhook))
    [log] = api.get_outbound_viber_message_logs(message_id=["m"]).results
    assert (log.message_id, log.destination, log.sender) == ("m", PHONE, "Shop")


def test_errors_are_the_librarys(simulator: child.Child, webhook: Webhook) -> None:
    for answer in (
        call(simulator.port, "POST", "/viber/2/messages", {}, key="wrong"),
        call(simulator.port, "POST", "/viber/2/messages", {}),
        call(simulator.port, "GET", "/nowhere"),
    ):
        known(sdk.models.ApiError, answer.json)
