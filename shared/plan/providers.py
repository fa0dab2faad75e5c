"""Mail providers that need not be configured, by the names of their exchangers (pure).

A name here must be the provider's own: where customers run hosts below it, `one_site` is false.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared.settings.shaping import OTHER_PROVIDER, ProviderSettings

BUILT_IN = tuple(
    ProviderSettings(name=name, mx=mx, one_site=one_site)
    for name, mx, one_site in (
        ("google", ("google.com", "googlemail.com"), True),
        ("microsoft", ("mail.protection.outlook.com", "mx.microsoft"), True),
        ("microsoft", ("olc.protection.outlook.com", "hotmail.com"), True),
        ("yahoo", ("yahoodns.net",), True),
        ("apple", ("mail.icloud.com", "mail.me.com", "apple.com"), True),
        ("gmx", ("gmx.net", "gmx.com", "web.de"), True),
        ("yandex", ("yandex.net", "yandex.ru"), True),
        ("mailru", ("mail.ru",), True),
        ("zoho", ("zoho.com", "zoho.eu", "zoho.in"), True),
        ("fastmail", ("messagingengine.com",), True),
        ("proton", ("protonmail.ch",), True),
        # Customers have hosts of their own below these names.
        ("ionos", ("kundenserver.de", "1and1.com", "ionos.com"), False),
        ("comcast", ("comcast.net",), False),
        ("orange", ("orange.fr", "wanadoo.fr"), False),
        ("amazon", ("amazonaws.com", "awsapps.com"), False),
        # Filters whose customers each have servers, and limits, of their own.
        ("proofpoint", ("pphosted.com", "ppe-hosted.com"), False),
        ("mimecast", ("mimecast.com", "mimecast.co.za"), False),
        ("barracuda", ("barracudanetworks.com",), False),
        ("cisco", ("iphmx.com",), False),
    )
)
"""As of 2026."""


def provider_names(providers: Iterable[ProviderSettings] = ()) -> tuple[str, ...]:
    """Every value that `Site.provider` can have: the known values of a metric's label."""
    names = (provider.name for provider in (*providers, *BUILT_IN))
    return tuple(dict.fromkeys((*names, OTHER_PROVIDER)))
