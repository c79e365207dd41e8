"""A bench that cannot find a wrong answer measures nothing."""

import unittest
from decimal import Decimal

import asking
import metrics
import queries
import report
from answers import Wrong, compare, geometric_mean, median, spread


class Answers(unittest.TestCase):
    def test_the_same_rows_in_another_order_and_with_rounding_are_the_same(self):
        compare([("a", 1, 0.1 + 0.2), ("b", 2, None)], [("b", 2, None), ("a", 1, 0.3)])
        compare([("a", Decimal("2.50"))], [("a", 2.5)])
        compare([(1.0,), (2.5,)], [(2.5,), (1,)])
        compare([(2.0000000001,)], [(2.0,)])
        compare([], [])

    def test_planted_wrong_answers_are_found(self):
        right = [("page_view", 7, 1.5), ("purchase", 2, 10.25)]
        for wrong in (
            [("page_view", 7, 1.5)],
            [("page_view", 8, 1.5), ("purchase", 2, 10.25)],
            [("page_view", 7, 1.5), ("purchase", 2, 10.26)],
            [("page_view", 7, 1.5), ("Purchase", 2, 10.25)],
            [("page_view", 7, None), ("purchase", 2, 10.25)],
            [("page_view", 7, 1.5), ("page_view", 7, 1.5)],
            [("page_view", 7), ("purchase", 2)],
            [(7, "page_view", 1.5), (2, "purchase", 10.25)],
        ):
            with self.assertRaises(Wrong):
                compare(right, wrong)
            with self.assertRaises(Wrong):
                compare(wrong, right)

    def test_ids_of_people_are_left_out_and_the_rest_is_not(self):
        compare([("ada", 7), ("bob", 8)], [(15, 8), (99, 7)], ids=(0,))
        with self.assertRaises(Wrong):
            compare([("ada", 7)], [(15, 8)], ids=(0,))

    def test_what_is_estimated_may_differ_by_as_much_as_is_said(self):
        compare([(100.0,)], [(102.5,)], tolerance=0.05)
        with self.assertRaises(Wrong):
            compare([(100.0,)], [(106.5,)], tolerance=0.05)


class Planted:
    """A system that says what it is told to."""

    def __init__(self, which, rows):
        self.which, self.rows = which, rows

    def ask(self, _query, _into):
        if self.rows is None:
            raise asking.Refused("too much\nmemory")
        return 0.5, self.rows


class Turns(unittest.TestCase):
    def ask(self, **rows):
        systems = [Planted(which, said) for which, said in rows.items()]
        found = {"wrong": [], **{which: {"times": []} for which in rows}}
        asking._in_turn(queries.Query("events by day", "SELECT"), systems, found)
        return found

    def test_a_fast_wrong_answer_is_named_with_its_question_and_its_system(self):
        found = self.ask(coffer=[("a", 1)], duckdb=[("a", 2)], chdb=[("a", 2)])
        self.assertEqual(len(found["wrong"]), 1)
        self.assertIn("events by day: coffer against duckdb", found["wrong"][0])
        self.assertEqual(asking.wrong({"queries": {"events by day": found}}), found["wrong"])

    def test_the_same_answer_is_not_wrong(self):
        self.assertEqual(self.ask(chdb=[("b", 1), ("a", 2)], coffer=[("a", 2), ("b", 1)], duckdb=[("a", 2), ("b", 1)])["wrong"], [])

    def test_what_is_not_answered_is_listed_and_neither_timed_nor_wrong(self):
        found = self.ask(coffer=None, duckdb=[("a", 2)])
        self.assertEqual((found["coffer"], found["wrong"]), ({"times": [], "failed": "too much memory"}, []))


class Reckoning(unittest.TestCase):
    def test_medians_spreads_and_means(self):
        self.assertEqual(median([3, 1, 2]), 2)
        self.assertEqual(median([4, 1, 2, 3]), 2.5)
        self.assertAlmostEqual(spread([9, 10, 11]), 0.1)
        self.assertAlmostEqual(geometric_mean([1, 4, 16]), 4)

    def test_counters_are_read_and_the_difference_is_what_happened_between(self):
        text = '# TYPE coffer_stage_rows counter\ncoffer_stage_rows_total{role="gateway",stage="md5"} %d\ncoffer_up{role="vault"} 1\n# EOF\n'
        before, after = metrics.parse(text % 5), metrics.parse(text % 12)
        self.assertEqual(metrics.between(before, after)[("coffer_stage_rows_total", "gateway", "md5")], 7)
        self.assertEqual(after[("coffer_up", "vault", "")], 1)


class Report(unittest.TestCase):
    def found(self, date):
        return {
            "about": [["date", date]],
            "rows": 10,
            "full": {
                "coffer": {
                    "rate": 1e5,
                    "cpu": {"gateway": 1.0},
                    "rest": {"journal": 60, "files": 40, "identities": 1, "views": 1, "everything": 300},
                    "peaks": {"gateway": 2**27},
                },
                "gzip": {"msgpack": 60},
                "plain": {"msgpack": 280},
            },
        }

    def test_it_says_what_is_wrong_what_is_not_answered_and_where_coffer_is_slower(self):
        times = lambda *all_of_them: {"times": list(all_of_them)}
        asked = {
            "a": {"coffer": times(9, 3, 3), "duckdb": times(1, 1, 1), "wrong": []},
            "b": {"coffer": {"times": [], "failed": "too much memory"}, "duckdb": times(1, 1, 1), "wrong": []},
            "c": {"coffer": times(9, 1, 1), "duckdb": times(1, 2, 2), "wrong": ["c: coffer against duckdb: 2 rows instead of 1"]},
        }
        query = {**self.found("2026-01-02"), "asked": {"queries": asked, "peaks": {}, "merge": {"cpu": 0, "stages": [], "files": 40}}}
        text = report.text({"ingest": None, "query": query})
        for part in (
            "Of 3 questions 1 were not answered by Coffer, and 1 had",
            "coffer, *b*: too much memory",
            "- c: coffer against duckdb",
            "Slower than duckdb in 1 questions of 2; farthest behind: a (3.0)",
            "Coffer takes 1.22 times as long as duckdb",
        ):
            self.assertIn(part, text)

    def test_what_is_of_an_earlier_run_says_so(self):
        runs = [{"rows": 10, "rate": 1e5, "cpu": {"gateway": 1.0, "client": 0.1}, "waits": 0, "stages": [["gateway", "md5", 100, 10]]}]
        ingest = {**self.found("2026-01-03"), "ways": {"Coffer": runs}}
        query = {**self.found("2026-01-02"), "asked": {"queries": {"a": {"coffer": {"times": [1, 1]}, "wrong": []}}, "peaks": {}, "merge": {"cpu": 0, "stages": [], "files": 40}}}
        text = report.text({"ingest": ingest, "query": query})
        self.assertEqual(text.count("Of an earlier run:"), 1)
        self.assertIn("| gateway: md5 | 10 |", text)
        self.assertNotIn("Of an earlier run", report.text({"ingest": ingest, "query": None}))


class Queries(unittest.TestCase):
    def test_there_are_enough_each_has_a_name_and_every_dialect_has_its_text(self):
        self.assertGreaterEqual(len(queries.ALL), 25)
        self.assertEqual(len({query.name for query in queries.ALL}), len(queries.ALL))
        for query in queries.ALL:
            for system in ("coffer", "duckdb", "chdb"):
                sql = query.sql(system)
                self.assertNotIn("{", sql, query.name)
                self.assertIn("events", sql, query.name)


if __name__ == "__main__":
    unittest.main()
