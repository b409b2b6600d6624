"""What a configuration's secrets must be: set, apart from one another, and hard to guess.

The environment is an argument. No sentence holds a secret. What is wrong is returned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from gateway.core.webhooks import is_secret
from gateway.decoding import KeyFault
from gateway.settings.tables import Document

APP_KEY_CHARS_MIN = 20  # of letters and digits: more than 100 bits
ARCHIVE_KEY = "archive.hash_key_env"
SCHEDULE = "reports.schedule"


def variables(document: Document) -> Iterator[tuple[str, str]]:
    """Every environment variable the file names: (key, variable)."""
    for app in document.apps:
        if app.key_env is not None:
            yield f"apps.{app.name}.key_env", app.key_env
    for name, provider in document.providers.items():
        for key, variable in provider.variables():
            yield f"providers.{name}.{key}", variable
    if document.archive.url:
        yield ARCHIVE_KEY, document.archive.hash_key_env
    for i, schedule in enumerate(document.reports.schedule):
        if schedule.secret_env is not None:
            yield f"{SCHEDULE}[{i}].secret_env", schedule.secret_env


def without_line_ends(
    document: Document, env: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """The values of all variables that are named and set, and the warnings that belong to them.

    A secret that was read from a file often ends in a line break that is no part of it."""
    values: dict[str, str] = {}
    told: list[str] = []
    for _, variable in variables(document):
        if variable in values or not env.get(variable):
            continue
        values[variable] = env[variable].rstrip("\r\n")
        if values[variable] != env[variable]:
            told.append(f"{variable} ended in a line break, which was taken off.")
    return values, told


def faults(document: Document, values: Mapping[str, str]) -> Iterator[KeyFault]:
    """What a provider needs and is not set, and keys that cannot be meant as they are."""
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for app in document.apps:
        if app.key_env is not None and (key := values.get(app.key_env)):
            owners[key].append(app.name)
    for app in document.apps:
        named = owners.get(values.get(app.key_env or "", ""), [app.name])
        if named[0] != app.name:
            yield KeyFault(
                f"apps.{app.name}.key_env",
                f"holds the key of {named[0]} too: give each app a key of its own.",
            )
    for key, variable in variables(document):
        value = values.get(variable, "")
        if not value and not key.startswith("apps."):
            yield KeyFault(
                key,
                f"names the environment variable {variable}, which is not set: set it to the "
                "secret.",
            )
        elif value != value.strip():
            yield KeyFault(
                key,
                f"names the environment variable {variable}, whose value has spaces at its ends: "
                "take them off.",
            )
        elif key == ARCHIVE_KEY and len(value) < APP_KEY_CHARS_MIN:
            yield KeyFault(
                key,
                f"names the environment variable {variable}, whose value of {len(value)} "
                f"characters can be guessed: give it {APP_KEY_CHARS_MIN} at least.",
            )
        elif key.startswith(SCHEDULE) and not is_secret(value):
            yield KeyFault(
                key,
                f"names the environment variable {variable}, whose value signs no webhook: make "
                'one by `echo "whsec_$(openssl rand -base64 32)"`.',
            )
    for name, provider in document.providers.items():
        for key, reason in provider.secret_faults(lambda variable: values.get(variable or "", "")):
            yield KeyFault(f"providers.{name}.{key}", reason)


def warnings(document: Document, values: Mapping[str, str]) -> Iterator[str]:
    """Secrets that work, but perhaps not as they were meant."""
    for app in document.apps:
        if app.key_env is None:
            continue
        key = values.get(app.key_env, "")
        if not key:
            yield (
                f"apps.{app.name} has no key from the environment: set {app.key_env}, or make one "
                "with `kaskad key new`."
            )
        elif len(key) < APP_KEY_CHARS_MIN:
            yield (
                f"apps.{app.name} has a key of {len(key)} characters in {app.key_env}, which can "
                f"be guessed: give it {APP_KEY_CHARS_MIN} at least, or make one with "
                "`kaskad key new`."
            )
