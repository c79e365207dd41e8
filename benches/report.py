"""docs/benchmarks.md: what was measured, in plain words and tables. Pure: takes the results, gives a text."""

from answers import geometric_mean, median, spread

ROLES = ("gateway", "identity", "warehouse", "vault", "accounts")

# In the order in which a row passes them.
STAGES = (
    "md5",
    "inflate",
    "decode",
    "find people",
    "wait for identity",
    "replace people",
    "encode",
    "wait for warehouse",
    "decode batch",
    "look for the same batch",
    "commit to zones",
    "show",
    "read files to merge",
    "sort for a file",
    "encode and encrypt a file",
    "put a file into zones",
)

_METHOD = """## Method

- The data: events of a web shop over 30 days, 12 columns (time, event, user, session, url, referrer of half of the sessions, country,
  device, app version, price and quantity of what is put into a cart or bought, a text of JSON), in the order of their time, made from
  a seed, the same bytes for all systems. A fiftieth of the rows is the number of users.
- Coffer runs as it is installed: `coffer serve`, five processes, sandbox on, three zones (directories on one disk), everything
  encrypted. Rows come over TLS as gzip bodies, each acknowledged when it is durable in two of three zones. The texts in `user_id`
  are swapped for ids on the way. One setting is not the default: rows go into files after 5 seconds instead of 60.
- DuckDB and chdb (ClickHouse in a process) read the same rows as gzip files of JSON lines, in a process of their own, with as many threads as
  there are cores. DuckDB's table is in a file, and a commit is flushed to the disk. chdb's is a MergeTree ordered by time, with
  LowCardinality for event, country, device and version; it does not flush inserts. Neither encrypts, keeps a second copy, translates
  identities or speaks TLS: the distance to Coffer is the price of these and of what Coffer does badly, together.
- Everything is measured in turns, so that a busy moment meets all; the median is shown, and as ± half of the distance between the fastest
  and the slowest time. Differences below 15 % are noise.
- A question to Coffer takes as long as it takes a client: issue the job, ask whether it is done (after 2 ms, then at longer distances up to
  20 ms), fetch the rows as JSON. A question to a peer is a call in its process until its answer is in memory. *In the engine* is what
  Coffer's warehouse took for the same questions from the first look at the tables to the result on the disk.
- The first time is after a restart of everything, with the files out of the page cache.
- Every answer is compared with DuckDB's: the same rows, numbers to a millionth (estimated percentiles to 5 %). Ids of people are each
  system's own and are left out. A wrong answer makes the command fail.
- CPU is what the kernel counted for a process from the first row sent until it was idle again with all rows in files. The client is
  a Python program on the same cores, so its share is missing from Coffer's rate.
- Time by stage comes from counters in the roles (`coffer metrics`).

## Again

```sh
cargo xtask bench all                   # ingest, query; --rows, --seed, --repeats
cargo xtask bench query --rows 1000000
cargo xtask bench rebuild --no-peers
```

It builds in release mode and fetches the peers into `target/bench/venv` the first time. Nothing else should run on the machine.
"""


def text(results):
    parts = [
        "# Benchmarks\n\nWritten by `cargo xtask bench`; do not edit. There are no targets here yet: this is how it is.\n",
        _short(results),
        *_sections(results),
        _METHOD,
    ]
    return "\n".join(part for part in parts if part)


def _short(results):
    ingest, query = results.get("ingest"), results.get("query")
    lines = []
    rebuild = results.get("rebuild")
    if rebuild:
        found = rebuild["rebuilt"]["--verify"]
        lines.append(f"- Tables made anew from the raw logs and compared: {rebuild['rows'] / found['seconds']:,.0f} rows a second.")
    if ingest:
        rates = {name: median([run["rate"] for run in runs]) for name, runs in ingest["ways"].items()}
        mine = {name: rate for name, rate in rates.items() if name.startswith("Coffer")}
        others = {name: rate for name, rate in rates.items() if name not in mine}
        name, rate = max(mine.items(), key=lambda item: item[1])
        line = f"- Rows in: {rate:,.0f} a second ({name})"
        if others:
            best = max(others.items(), key=lambda item: item[1])
            line += f", {rate / best[1]:.2f} of the fastest way into a peer ({best[0]}: {best[1]:,.0f})"
        lines.append(line + ".")
    if query:
        queries = query["asked"]["queries"]
        for peer in ("duckdb", "chdb"):
            ratios = [found for found in (ratio(one, peer) for one in queries.values()) if found]
            if ratios:
                slower = sum(found > 1 for found in ratios)
                lines.append(f"- Questions: {geometric_mean(ratios):.2f} times as long as {peer} (geometric mean); slower in {slower} of {len(ratios)}.")
        failed, wrong = (sum(test(one) for one in queries.values()) for test in (lambda one: "failed" in one["coffer"], lambda one: one["wrong"] != []))
        lines.append(f"- Of {len(queries)} questions {failed} were not answered by Coffer, and {wrong} had an answer that differed between systems.")
    return "## In short\n\n" + "\n".join(lines) + "\n" if lines else ""


def _sections(results):
    ingest, query, rebuild = results.get("ingest"), results.get("query"), results.get("rebuild")
    latest = max((found for found in (ingest, query, rebuild) if found), key=lambda found: found["about"][0][1])

    def section(title, found):
        other = list(map(tuple, found["about"])) != list(map(tuple, latest["about"]))
        return f"## {title}\n" + ("\nOf an earlier run:\n\n" + _table(("", ""), found["about"]) if other else "")

    yield "## Machine\n\n" + _table(("", ""), latest["about"])
    if ingest:
        yield section("Rows in", ingest)
        yield _ways(ingest["ways"])
        yield _cpu(ingest["ways"])
        yield _stages(ingest["ways"])
    if not ingest:
        yield "## Rows in\n"
    yield _full(latest["full"], latest["rows"])
    if query:
        yield section("Questions", query)
        yield _questions(query["asked"], query.get("memory"))
        yield _merge(query["asked"]["merge"], query["full"])
        yield _memory("### Memory while asking, most at once", query["asked"]["peaks"])
    if rebuild:
        yield section("Tables made anew", rebuild)
        yield _rebuilt(rebuild["rebuilt"], rebuild["rows"])


def _table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _with_spread(values, form="{:,.0f}"):
    several = f" ±{spread(values) * 100:.0f} %" if len(values) > 1 else ""
    return form.format(median(values)) + several


def _ways(ways):
    best = {peer: max((median([r["rate"] for r in runs]) for name, runs in ways.items() if name.startswith(peer)), default=None) for peer in ("DuckDB", "chdb")}
    rows = []
    for name, runs in ways.items():
        rate = median([run["rate"] for run in runs])
        ratios = [f"{rate / best[peer]:.2f}" if best[peer] else "–" for peer in best]
        cpu = [sum(seconds for who, seconds in run["cpu"].items() if who != "client") for run in runs]
        waits = f"{sum(run.get('waits', 0) for run in runs)}" if "waits" in runs[0] else "–"
        rows.append((name, _with_spread([run["rate"] for run in runs]), *ratios, _with_spread(cpu, "{:.2f}"), f"{runs[0]['rows']:,}", waits))
    return (
        "### Rows a second\n\n"
        + _table(("way", "rows/s", "of DuckDB's best", "of chdb's best", "µs CPU a row", "rows each time", "told to wait"), rows)
        + "\n*Told to wait* is how often Coffer answered \"slow down\" because memory for rows that are in no file yet was full; the sender waited as told.\n"
    )


def _cpu(ways):
    rows = []
    for name, runs in ways.items():
        if "client" in runs[0]["cpu"]:
            rows.append((name, *(f"{median([run['cpu'].get(who, 0) for run in runs]):.2f}" for who in (*ROLES, "client"))))
    return "### CPU by process, µs a row\n\n" + _table(("way", *ROLES, "client"), rows)


def _stages(ways):
    names = [name for name, runs in ways.items() if "stages" in runs[0]]
    all_of_them = {}
    for name in names:
        for run in ways[name]:
            for role, stage, nanoseconds, _ in run["stages"]:
                if stage != "answer a query":
                    all_of_them.setdefault((role, stage), {}).setdefault(name, []).append(nanoseconds / run["rows"])
    rows = []
    for (role, stage), found in sorted(all_of_them.items(), key=lambda item: (STAGES.index(item[0][1]) if item[0][1] in STAGES else 99, item[0])):
        rows.append((f"{role}: {stage}", *(f"{median(found[name]):,.0f}" if name in found else "–" for name in names)))
    return (
        "### Time by stage, ns a row\n\nOn the clock: with several connections a stage also waits for cores that other bodies use, so the ways with one"
        " connection tell best what it costs. What waits for another role holds that role's stages.\n\n" + _table(("stage", *names), rows)
    )


def _full(full, rows):
    head = ("system", "rows/s", "µs CPU a row", "bytes a row", "of it", "memory, most at once")
    lines = []
    for system, found in full.items():
        if system in ("gzip", "plain"):
            continue
        rest = found["rest"]
        of_it = "–"
        if system == "coffer":
            of_it = (
                f"of each of three zones: journal {rest['journal']:.1f}, files {rest['files']:.1f}, identities {rest['identities']:.2f};"
                f" views and catalogs {rest['views']:.2f}"
            )
        memory = ", ".join(f"{who} {amount / 2**20:,.0f}" for who, amount in found["peaks"].items())
        cpu = sum(amount for who, amount in found["cpu"].items() if who != "client")
        lines.append((system, f"{found['rate']:,.0f}", f"{cpu:.2f}", f"{rest['everything']:.1f}", of_it, f"{memory} MiB"))
    sent = ", ".join(f"{form} {found:.0f} ({full['gzip'][form]:.0f} as gzip)" for form, found in full["plain"].items())
    return (
        f"### All {rows:,} rows at once\n\nCoffer by msgpack.gz in bodies of 10,000 rows, the peers in one statement. Bytes a row as sent: {sent}.\n\n"
        + _table(head, lines)
        + "\nThe journal is kept beside the files: it is what everything can be rebuilt from.\n"
    )


def _merge(merge, full):
    waited = {stage: nanoseconds for _, stage, nanoseconds, _ in merge["stages"]}
    if "read files to merge" not in waited:
        return "### Files merged before the questions\n\nThere was nothing to merge.\n"
    return (
        f"### Files merged before the questions\n\nSmall files are merged while somebody reads. It took {merge['cpu']:.2f} µs of the warehouse's CPU a row;"
        f" the files then take {merge['files']:.1f} bytes a row in each zone (before: {full['coffer']['rest']['files']:.1f}), the old ones for some more minutes too.\n"
    )


def _memory(title, peaks):
    return title + "\n\n" + _table(("process", "MiB"), [(who, f"{amount / 2**20:,.0f}") for who, amount in peaks.items()])


def _rebuilt(rebuilt, rows):
    said = "`coffer rebuild`, all views, catalogs and tables gone before, from its start to its end; what is made anew is the same to the last value.\n\n"
    head = ("asked for", "rows/s", "seconds", "µs CPU a row", "memory of the largest process")
    cells = [
        (way, f"{rows / found['seconds']:,.0f}", f"{found['seconds']:.1f}", f"{found['cpu'] / rows * 1e6:.2f}", f"{found['peak'] >> 20} MiB")
        for way, found in rebuilt.items()
    ]
    return said + _table(head, cells)


def _ms(seconds):
    return f"{seconds * 1e3:,.1f}" if seconds < 0.1 else f"{seconds * 1e3:,.0f}"


def ratio(query, peer):
    """How many times as long Coffer takes, or None where one of both did not answer."""
    one, other = query["coffer"], query.get(peer, {"times": []})
    if "failed" in one or "failed" in other or not one["times"][1:] or not other["times"][1:]:
        return None
    return median(one["times"][1:]) / median(other["times"][1:])


def _cell(found):
    if "failed" in found:
        return "not answered"
    warm = found["times"][1:]
    return f"{_ms(median(warm))} ±{spread(warm) * 100:.0f} %"


def _questions(asked, memory):
    queries = asked["queries"]
    peers = [which for which in ("duckdb", "chdb") if which in next(iter(queries.values()))]
    head = ["question", "Coffer", "in the engine", *peers, *(f"times {peer}" for peer in peers), "Coffer first", *(f"{peer} first" for peer in peers), "answer"]
    rows, slower, quicker, failed, wrong = [], [], [], [], []
    for name, query in queries.items():
        ratios = {peer: ratio(query, peer) for peer in peers}
        engine = query["coffer"].get("engine", [])[1:]
        verdict = "WRONG" if query["wrong"] else "not answered" if "failed" in query["coffer"] else "the same" if peers else "not compared"
        rows.append(
            (
                name,
                _cell(query["coffer"]),
                _ms(median(engine)) if engine else "–",
                *(_cell(query[peer]) for peer in peers),
                *(f"{ratios[peer]:.2f}" if ratios[peer] else "–" for peer in peers),
                *(_ms(query[which]["times"][0]) if query[which]["times"] else "–" for which in ("coffer", *peers)),
                verdict,
            )
        )
        wrong += query["wrong"]
        for which in ("coffer", *peers):
            if "failed" in query[which]:
                failed.append(f"- {which}, *{name}*: {query[which]['failed']}")
        if peers and ratios[peers[0]]:
            (slower if ratios[peers[0]] > 1 else quicker).append((ratios[peers[0]], name))
    parts = [f"Milliseconds: the median of {max(len(q['coffer']['times']) for q in queries.values()) - 1} times, warm.\n"]
    if memory:
        parts.append(f"One query may hold {memory} MiB of memory here instead of the default.\n")
    parts.append(_table(head, rows))
    for peer in peers:
        ratios = [found for found in (ratio(query, peer) for query in queries.values()) if found]
        if ratios:
            engine = [
                median(q["coffer"]["engine"][1:]) / median(q[peer]["times"][1:]) for q in queries.values() if ratio(q, peer) and q["coffer"].get("engine", [])[1:]
            ]
            line = f"- Geometric mean over {len(ratios)} questions: Coffer takes {geometric_mean(ratios):.2f} times as long as {peer}"
            parts.append(line + (f", its engine alone {geometric_mean(engine):.2f} times.\n" if engine else ".\n"))
    if slower:
        worst = ", ".join(f"{name} ({times:.1f})" for times, name in sorted(slower, reverse=True)[:8])
        parts.append(f"- Slower than {peers[0]} in {len(slower)} questions of {len(slower) + len(quicker)}; farthest behind: {worst}.\n")
    if quicker:
        parts.append(f"- Faster than {peers[0]} in {len(quicker)}: " + ", ".join(f"{name} ({times:.2f})" for times, name in sorted(quicker)) + ".\n")
    if failed:
        parts.append("Not answered:\n\n" + "\n".join(failed) + "\n")
    if wrong:
        parts.append("**Wrong answers:**\n\n" + "\n".join(f"- {line}" for line in wrong) + "\n")
    return "\n".join(parts)
