"""The page on which a person says what it wants to be sent no more, in Russian or English. Pure."""

from __future__ import annotations

from functools import cache
from typing import Literal

from gateway.ingress.pages.lang import Lang
from gateway.ingress.pages.page import Page

# What the person stopped; unknown: that could not be noted.
Stops = Literal["nothing", "channel", "all", "unknown"]

_page = Page("unsubscribe", "form-action 'self'; ", styles=("person", "unsubscribe"))
CONTENT_SECURITY_POLICY = _page.content_security_policy
_WORDS: dict[Lang, dict[Stops, tuple[str, str]]] = {
    "en": {
        "nothing": ("Advertising", "Do you want no more of it?"),
        "channel": ("You are unsubscribed", "You will get no more advertising this way."),
        "all": ("You are unsubscribed", "You will get no more advertising from us."),
        "unknown": ("One moment, please", "We cannot note this now. Try again in a minute."),
    },
    "ru": {
        "nothing": ("Рекламные сообщения", "Вы больше не хотите их получать?"),
        "channel": ("Вы отписались", "Рекламы этим способом больше не будет."),
        "all": ("Вы отписались", "Рекламы от нас больше не будет."),
        "unknown": ("Одну минуту", "Сейчас мы не можем это записать. Попробуйте чуть позже."),
    },
}
_BUTTONS: dict[Lang, dict[str, str]] = {
    "en": {
        "channel": "Unsubscribe",
        "all": "No advertising in any way",
        "none": "Subscribe again",
    },
    "ru": {
        "channel": "Отписаться",
        "all": "Никакой рекламы никаким способом",
        "none": "Подписаться снова",
    },
}
_OFFERED: dict[Stops, tuple[str, ...]] = {
    "nothing": ("channel", "all"),
    "channel": ("all", "none"),
    "all": ("none",),
    "unknown": ("channel",),
}


@cache
def page(stops: Stops, lang: Lang) -> bytes:
    title, text = _WORDS[lang][stops]
    buttons = [(choice, _BUTTONS[lang][choice]) for choice in _OFFERED[stops]]
    return _page.render(lang=lang, title=title, text=text, buttons=buttons)
