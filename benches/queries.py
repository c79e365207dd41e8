"""The questions. Half are in the manner of ClickBench (one wide table, scans and groups), half are what product analytics asks.

The text is the same for all three systems wherever that is possible. `{user}` is one user: a text for the peers, `person_id('…')` for
Coffer, which stores no identity. Coffer's ids of people are its own, so columns that hold them are not compared (`ids`).
Times are whole seconds since 1970: the data begins on Thursday 2026-01-01 and ends 30 days later.
"""

from dataclasses import dataclass, field

START = 1_767_225_600
DAY = 86_400
USER = "user.0000001@customers.example"


@dataclass(frozen=True)
class Query:
    name: str
    text: str
    # Where a dialect needs other words.
    instead: dict = field(default_factory=dict)
    tolerance: float = 1e-6
    ids: tuple = ()

    def sql(self, system):
        text = self.instead.get(system, self.text)
        user = f"person_id('{USER}')" if system == "coffer" else f"'{USER}'"
        return text.replace("{user}", user)


def _days(first, last):
    return f"time >= {START + first * DAY} AND time < {START + last * DAY}"


_SESSIONS = """
SELECT count(*), sum(CASE WHEN before IS NULL OR time - before > 1800 THEN 1 ELSE 0 END)
FROM (SELECT time, lag(time) OVER (PARTITION BY user_id ORDER BY time) AS before FROM events) AS steps"""

_DOMAIN = "SELECT {f} AS domain, count(*), avg(length(referrer)) FROM events WHERE referrer IS NOT NULL GROUP BY 1"

ALL = [
    Query("count", "SELECT count(*) FROM events"),
    Query("sums of sparse columns", "SELECT sum(price), count(price), sum(quantity), avg(price), max(price) FROM events"),
    Query("ten sums of an expression", "SELECT " + ", ".join(f"sum(quantity + {n})" for n in range(10)) + " FROM events"),
    Query("first, last and days", "SELECT min(time), max(time), count(DISTINCT time - time % 86400) FROM events"),
    Query("group by event", "SELECT event, count(*) FROM events GROUP BY event"),
    Query("revenue by country", "SELECT country, sum(price * quantity), count(*) FROM events WHERE event = 'purchase' GROUP BY country"),
    Query("distinct users", "SELECT count(DISTINCT user_id) FROM events"),
    Query("distinct sessions", "SELECT count(DISTINCT session) FROM events"),
    Query(
        "daily distinct users",
        "SELECT time - time % 86400 AS day, count(DISTINCT user_id) FROM events GROUP BY time - time % 86400",
    ),
    Query(
        "events per hour, a week",
        f"SELECT time - time % 3600 AS hour, count(*) FROM events WHERE {_days(7, 14)} GROUP BY time - time % 3600",
    ),
    Query("one event in one hour", f"SELECT count(*) FROM events WHERE time >= {START + 15 * DAY} AND time < {START + 15 * DAY + 3600} AND event = 'purchase'"),
    Query("top urls", "SELECT url, count(*) AS n FROM events GROUP BY url ORDER BY n DESC, url LIMIT 10"),
    Query("top users", "SELECT user_id, count(*) AS n FROM events GROUP BY user_id ORDER BY n DESC LIMIT 10", ids=(0,)),
    Query(
        "top users and events",
        "SELECT user_id, event, count(*) AS n FROM events GROUP BY user_id, event ORDER BY n DESC LIMIT 10",
        ids=(0, 1),
    ),
    Query(
        "referrers with distinct users",
        "SELECT referrer, count(*), count(DISTINCT user_id) FROM events WHERE referrer IS NOT NULL GROUP BY referrer",
    ),
    Query(
        "three-column group with distinct sessions",
        "SELECT country, device, app_version, count(*), count(DISTINCT session) FROM events GROUP BY country, device, app_version",
    ),
    Query(
        "estimated percentiles by event",
        "SELECT event, approx_percentile_cont(price, 0.5), approx_percentile_cont(price, 0.95) FROM events WHERE price IS NOT NULL GROUP BY event",
        {
            "duckdb": "SELECT event, approx_quantile(price, 0.5), approx_quantile(price, 0.95) FROM events WHERE price IS NOT NULL GROUP BY event",
            "chdb": "SELECT event, quantileTDigest(0.5)(price), quantileTDigest(0.95)(price) FROM events WHERE price IS NOT NULL GROUP BY event",
        },
        tolerance=0.05,
    ),
    Query("LIKE on url, count", "SELECT count(*) FROM events WHERE url LIKE '%utm_campaign=c3%'"),
    Query(
        "LIKE on url, group",
        "SELECT url, count(*) AS n FROM events WHERE url LIKE '%/tents/%' GROUP BY url ORDER BY n DESC, url LIMIT 10",
    ),
    Query("LIKE on JSON text", "SELECT event, count(*) FROM events WHERE properties LIKE '%\"gift\":true%' GROUP BY event"),
    Query(
        "domains by a regular expression",
        _DOMAIN.replace("{f}", "regexp_replace(referrer, '^https?://([^/]+)/.*$', '\\1')"),
        {"chdb": _DOMAIN.replace("{f}", "replaceRegexpOne(referrer, '^https?://([^/]+)/.*$', '\\\\1')")},
    ),
    Query(
        "one user, two days",
        f"SELECT time, event, url FROM events WHERE user_id = {{user}} AND {_days(10, 12)}",
    ),
    Query("one user, all", "SELECT time, event, url, price FROM events WHERE user_id = {user}"),
    Query(
        "latest 100 with a filter, all columns",
        "SELECT time, event, user_id, session, url, referrer, country, device, app_version, price, quantity, properties"
        " FROM events WHERE event = 'purchase' AND country = 'DE' ORDER BY time DESC, session, url, properties LIMIT 100",
        ids=(2,),
    ),
    Query("all purchases of a day", f"SELECT time, session, country, price, quantity FROM events WHERE event = 'purchase' AND {_days(20, 21)}"),
    Query(
        "sessions per user",
        "SELECT sessions, count(*) FROM (SELECT user_id, count(DISTINCT session) AS sessions FROM events GROUP BY user_id) AS users GROUP BY sessions",
    ),
    Query(
        "length of sessions",
        "SELECT avg(seconds), avg(steps), max(steps), count(*) FROM"
        " (SELECT session, max(time) - min(time) AS seconds, count(*) AS steps FROM events GROUP BY session) AS sessions",
    ),
    Query("sessionize with a window", _SESSIONS),
    Query(
        "funnel of three steps",
        """
WITH viewed AS (SELECT user_id, min(time) AS moment FROM events WHERE event = 'page_view' GROUP BY user_id),
 added AS (SELECT e.user_id AS user_id, min(e.time) AS moment FROM events AS e JOIN viewed AS v ON e.user_id = v.user_id
  WHERE e.event = 'add_to_cart' AND e.time > v.moment AND e.time <= v.moment + 604800 GROUP BY e.user_id),
 bought AS (SELECT e.user_id AS user_id, min(e.time) AS moment FROM events AS e JOIN added AS a ON e.user_id = a.user_id
  WHERE e.event = 'purchase' AND e.time > a.moment AND e.time <= a.moment + 604800 GROUP BY e.user_id)
SELECT 'viewed' AS step, count(*) FROM viewed UNION ALL SELECT 'added', count(*) FROM added UNION ALL SELECT 'bought', count(*) FROM bought""",
    ),
    Query(
        "weekly retention",
        """
WITH weeks AS (SELECT DISTINCT user_id, time - time % 604800 AS week FROM events),
 firsts AS (SELECT user_id, min(week) AS cohort FROM weeks GROUP BY user_id)
SELECT f.cohort, w.week - f.cohort AS later, count(*) FROM weeks AS w JOIN firsts AS f ON w.user_id = f.user_id
GROUP BY f.cohort, w.week - f.cohort""",
    ),
    Query(
        "bought in the first and in the last week",
        f"SELECT count(DISTINCT user_id) FROM events WHERE event = 'purchase' AND {_days(0, 7)}"
        f" AND user_id IN (SELECT user_id FROM events WHERE event = 'purchase' AND {_days(23, 30)})",
    ),
    Query(
        "conversion by device",
        "SELECT device, sum(CASE WHEN event = 'add_to_cart' THEN 1 ELSE 0 END), sum(CASE WHEN event = 'purchase' THEN 1 ELSE 0 END),"
        " count(*) FROM events GROUP BY device",
    ),
    Query(
        "running total of daily revenue",
        "SELECT day, revenue, sum(revenue) OVER (ORDER BY day) FROM (SELECT time - time % 86400 AS day, sum(price) AS revenue"
        " FROM events WHERE event = 'purchase' GROUP BY time - time % 86400) AS days",
    ),
]
