"""The content of the dashboards: rows of panels, controls, and lists of documents."""

from dataclasses import dataclass

from deploy.kibana.lens import (
    BYTES,
    DECIMAL,
    NUMBER,
    Json,
    Panel,
    by,
    by_time,
    chart,
    count,
    distinct,
    donut,
    figure,
    highest,
    latest_time,
    table,
    total,
)

DOWNLOADS = "registry-downloads"
EVENTS = "registry-events"

SUCCEEDED = 'event.outcome : "success"'
FAILED = 'event.outcome : "failure"'
UNIQUE = f"{SUCCEEDED} and registry.unique : true"
HAPPENED = 'event.kind : "event"'
SAMPLED = 'event.kind : "metric"'
BEFORE = "previous"
SENT = "http.response.body.bytes"
CLIENT = "client.user.hash"
A_DAY = "A client is recognised within one day only. Over several days it counts once for each day."
WHOLE = "Shows the whole registry. The filters above don't apply."


@dataclass(frozen=True)
class Listing:
    """A saved search that lists documents, newest first."""

    id: str
    title: str
    description: str
    view: str
    query: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Control:
    """A filter at the top of a dashboard, with the values of a field of downloads."""

    field: str
    title: str
    single: bool = False

    @property
    def id(self) -> str:
        """The field's name without dots, because dots have a meaning in names of references."""
        return self.field.replace(".", "-")


@dataclass(frozen=True)
class Row:
    """Panels side by side with their widths. A dashboard has 48 columns."""

    height: int
    panels: tuple[tuple[int, Panel | Listing], ...]


@dataclass(frozen=True)
class Dashboard:
    id: str
    title: str
    description: str
    since: str
    controls: tuple[Control, ...]
    rows: tuple[Row, ...]


def _figures(prefix: str) -> tuple[Panel, ...]:
    """The totals at the top of both dashboards."""
    downloads, unique = count("Downloads"), count("Distinct downloads")
    clients, sent = distinct(CLIENT, "Unique clients"), total(SENT, "Bytes served", BYTES)
    failed = count("Failed requests")
    return (
        figure(f"{prefix}-downloads", "Downloads", DOWNLOADS, downloads, count("Before", shift=BEFORE),
               query=SUCCEEDED),
        figure(f"{prefix}-distinct", "Distinct downloads", DOWNLOADS, unique, count("Before", shift=BEFORE),
               query=UNIQUE, description="Repeats by the same client within a minute are left out."),
        figure(f"{prefix}-clients", "Unique clients", DOWNLOADS, clients, distinct(CLIENT, "Before", shift=BEFORE),
               query=SUCCEEDED, description=A_DAY),
        figure(f"{prefix}-bytes", "Bytes served", DOWNLOADS, sent, total(SENT, "Before", BYTES, shift=BEFORE),
               query=SUCCEEDED),
        figure(f"{prefix}-failed", "Failed requests", DOWNLOADS, failed, count("Before", shift=BEFORE), query=FAILED),
    )  # fmt: skip


def _clients(prefix: str) -> tuple[Panel, ...]:
    """The panels about clients, for both dashboards."""
    return (
        chart(f"{prefix}-client", "Clients", DOWNLOADS, "bar_horizontal",
              by("user_agent.name", "Client", 10, most="value"), count("Downloads"), query=SUCCEEDED),
        table(f"{prefix}-client-versions", "Versions of clients", DOWNLOADS, {
            "client": by("user_agent.name", "Client", 10, most="downloads"),
            "version": by("user_agent.version", "Version", 5, most="downloads"),
            "downloads": count("Downloads"),
        }, sort="downloads", query=SUCCEEDED),
        donut(f"{prefix}-os", "Operating systems", DOWNLOADS,
              by("user_agent.os.name", "Operating system", 8, most="value", rest=True), count("Downloads"),
              query=SUCCEEDED),
    )  # fmt: skip


def _kinds(prefix: str) -> tuple[Panel, ...]:
    """The panels about kinds of clients: people, CI, mirrors and bots."""

    def kind() -> Json:
        return by("registry.client.kind", "Kind of client", 5, most="value", rest=True)

    return (
        chart(f"{prefix}-kinds", "Downloads by kind of client", DOWNLOADS, "bar_stacked", by_time(),
              count("Downloads"), split=kind(), query=SUCCEEDED),
        donut(f"{prefix}-share", "Share of mirrors and CI", DOWNLOADS, kind(), count("Downloads"), query=SUCCEEDED),
    )  # fmt: skip


def _failures(prefix: str) -> tuple[Panel, ...]:
    status = "http.response.status_code"
    return (
        chart(f"{prefix}-statuses", "Failed requests by status", DOWNLOADS, "bar_stacked", by_time(),
              count("Failed requests"), split=by(status, "Status", 8, most="value", data_type="number"), query=FAILED),
        table(f"{prefix}-failed-paths", "Paths with most failures", DOWNLOADS, {
            "path": by("url.path", "Path", 20, most="failed"),
            "status": by(status, "Status", 3, most="failed", data_type="number"),
            "failed": count("Failed requests"),
        }, sort="failed", query=FAILED),
    )  # fmt: skip


def _top() -> tuple[Panel, ...]:
    return (
        table("overview-top-packages", "Top packages", DOWNLOADS, {
            "package": by("package.name", "Package", 50, most="downloads"),
            "downloads": count("Downloads"),
            "distinct": count("Distinct", where="registry.unique : true"),
            "clients": distinct(CLIENT, "Unique clients"),
            "bytes": total(SENT, "Bytes served", BYTES),
        }, sort="downloads", query=SUCCEEDED, description=A_DAY),
        table("overview-top-owners", "Top owners", DOWNLOADS, {
            "owner": by("organization.name", "Owner", 50, most="downloads"),
            "packages": distinct("package.name", "Packages"),
            "downloads": count("Downloads"),
        }, sort="downloads", query=SUCCEEDED),
        table("overview-countries", "Countries", DOWNLOADS, {
            "country": by("client.geo.country_iso_code", "Country", 50, most="downloads", rest=True),
            "downloads": count("Downloads"),
        }, sort="downloads", query=SUCCEEDED),
    )  # fmt: skip


def _registry() -> tuple[Panel, ...]:
    """The panels about the registry itself."""
    return (
        chart("overview-publishes", "Publishes over time", EVENTS, "bar_stacked", by_time(), count("Events"),
              split=by("event.action", "Event", 8, most="value"), query=HAPPENED, description=WHOLE,
              global_filters=False),
        chart("overview-publishers", "Publishes by publisher", EVENTS, "bar_stacked", by_time(), count("Publishes"),
              split=by("registry.publisher.kind", "Publisher", 5, most="value"), query=HAPPENED,
              description=f"Who published: a user, or a CI job of GitHub, GitLab or another issuer. {WHOLE}",
              global_filters=False),
        chart("overview-webhooks", "Webhooks by state", EVENTS, "line", by_time(),
              highest("registry.webhooks.number", "Webhooks", NUMBER),
              split=by("registry.webhooks.state", "State", 3, most="value"), query=SAMPLED,
              description="Failing: the last attempt to deliver failed. Disabled: nothing was delivered for five days, "
              f"or the receiver answered 410. {WHOLE}",
              global_filters=False),
        chart("overview-lag", "Index lag", EVENTS, "line", by_time(),
              highest("registry.consumer.seconds_behind", "Seconds behind", DECIMAL),
              split=by("registry.consumer.name", "Consumer", 8, most="value"), query=SAMPLED,
              description=f"The age of the oldest event that a consumer has not handled. {WHOLE}",
              global_filters=False),
    )  # fmt: skip


def _versions() -> tuple[Panel, ...]:
    return (
        chart("package-adoption", "Version adoption", DOWNLOADS, "area_percentage_stacked", by_time(),
              count("Downloads"), split=by("package.version", "Version", 10, most="value", rest=True),
              query=SUCCEEDED),
        table("package-versions", "Versions", DOWNLOADS, {
            "version": by("package.version", "Version", 100, most="downloads"),
            "downloads": count("Downloads"),
            "clients": distinct(CLIENT, "Unique clients"),
            "last": latest_time("Last download"),
        }, sort="downloads", query=SUCCEEDED, description=A_DAY),
    )  # fmt: skip


RECENT_EVENTS = Listing(
    "registry-recent-events", "Recent events", "Publishes, deletions and yanks, newest first. Empty if you filter by "
    "a field that only downloads have, such as the kind of client.", EVENTS, HAPPENED,
    ("event.action", "package.name", "package.version", "organization.name"),
)  # fmt: skip
RECENT_DOWNLOADS = Listing(
    "registry-recent-downloads", "Recent downloads", "Requests for tarballs, successful and failed, newest first.",
    DOWNLOADS, "", ("package.name", "package.version", "http.response.status_code", "user_agent.name",
    "user_agent.version", "user_agent.os.name", "registry.client.kind", "client.ip"),
)  # fmt: skip
LISTINGS = (RECENT_EVENTS, RECENT_DOWNLOADS)


def _side_by_side(height: int, widths: tuple[int, ...], *panels: Panel | Listing) -> Row:
    return Row(height, tuple(zip(widths, panels, strict=True)))


KIND = Control("registry.client.kind", "Kind of client")
DASHBOARDS = (
    Dashboard(
        "registry-overview",
        "Registry overview",
        "Downloads of the whole registry against the period before, by kind of client, package, owner and country; "
        "publishes by event and by publisher, states of webhooks, and index lag.",
        "now-30d",
        (KIND, Control("organization.name", "Owner"), Control("package.name", "Package"),
         Control("client.geo.country_iso_code", "Country")),
        (
            _side_by_side(6, (10, 10, 10, 9, 9), *_figures("overview")),
            _side_by_side(13, (32, 16), *_kinds("overview")),
            _side_by_side(15, (24, 14, 10), *_top()),
            _side_by_side(13, (16, 16, 16), *_clients("overview")),
            _side_by_side(13, (24, 24), *_failures("overview")),
            _side_by_side(13, (24, 24), *_registry()[:2]),
            _side_by_side(13, (24, 24), *_registry()[2:]),
            _side_by_side(15, (48,), RECENT_EVENTS),
        ),
    ),
    Dashboard(
        "registry-package",
        "Package drill-down",
        "One package, which you select above: downloads by version, client and operating system, and failed requests.",
        "now-90d",
        (Control("package.name", "Package", single=True), Control("package.version", "Version"), KIND,
         Control("user_agent.name", "Client")),
        (
            _side_by_side(6, (10, 10, 10, 9, 9), *_figures("package")),
            _side_by_side(14, (30, 18), *_versions()),
            _side_by_side(13, (32, 16), *_kinds("package")),
            _side_by_side(13, (16, 16, 16), *_clients("package")),
            _side_by_side(13, (24, 24), *_failures("package")),
            _side_by_side(15, (48,), RECENT_DOWNLOADS),
        ),
    ),
)  # fmt: skip
