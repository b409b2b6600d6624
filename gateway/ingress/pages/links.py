"""What somebody sees who followed a link that leads nowhere, in Russian or English. Pure."""

from __future__ import annotations

from functools import cache

from gateway.ingress.pages.lang import Lang
from gateway.ingress.pages.page import Page

_page = Page("person")
CONTENT_SECURITY_POLICY = _page.content_security_policy
_WORDS: dict[Lang, dict[int, tuple[str, str]]] = {
    "en": {
        404: ("This link leads nowhere", "Check whether you typed it as it was written."),
        410: ("This link has expired", "What it led to is over."),
        429: ("Too many attempts", "Wait a minute and follow the link again."),
        503: ("One moment, please", "We cannot look this link up now. Try again in a minute."),
    },
    "ru": {
        404: ("Такой ссылки нет", "Проверьте, так ли она написана."),
        410: ("Срок действия ссылки истёк", "То, на что она вела, уже закончилось."),
        429: ("Слишком много попыток", "Подождите минуту и откройте ссылку ещё раз."),
        503: ("Одну минуту", "Сейчас мы не можем открыть эту ссылку. Попробуйте ещё раз позже."),
    },
}


@cache
def page(status: int, lang: Lang) -> bytes:
    title, text = _WORDS[lang][status]
    return _page.render(lang=lang, title=title, text=text)
