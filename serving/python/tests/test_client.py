"""The client against a server: TEMPOGRAPH_URL names one whose artifact has seen users 1 and 2 and item 1, and whose events have no features."""

import os
import sys
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tempograph_client import Client, Event, Refused, Unreachable  # noqa: E402


class AgainstAServer(unittest.TestCase):
    def setUp(self):
        self.client = Client(os.environ["TEMPOGRAPH_URL"], deadline=30)
        self.addCleanup(self.client.close)
        self.model = self.client.model()

    def test_events_are_taken_once_and_answers_have_seen_them(self):
        newest = self.model["newest"]
        event = Event(src=1, dst=1, time=int(newest), id="python-1-" + str(self.model["log_seq"]))
        receipt = self.client.send([event])
        self.assertEqual((receipt.accepted, receipt.duplicates), (1, 0))
        self.assertEqual(self.client.send([event]).duplicates, 1)
        scores = self.client.score([(1, 1), (2, 1)], min_seq=receipt.first_seq + 1)
        self.assertEqual(len(scores.scores), 2)
        self.assertTrue(all(0 <= probability <= 1 for probability in scores.probabilities))
        self.assertGreater(scores.log_seq, receipt.first_seq)

    def test_an_event_is_taken_back_once(self):
        event = Event(src=1, dst=1, time=int(self.client.model()["newest"]), id="python-2-" + str(self.model["log_seq"]))
        receipt = self.client.send([event])
        taken = self.client.retract([event.id])
        self.assertEqual((taken.retracted, taken.log_seq), (1, receipt.log_seq))
        self.assertEqual(self.client.retract([event.id]).retracted, 0)
        with self.assertRaises(Refused) as caught:
            self.client.retract(["nobody"])
        self.assertEqual(caught.exception.status, 422)

    def test_many_events_are_told_in_parts(self):
        newest = int(self.client.model()["newest"])
        receipts = list(self.client.send_all((Event(1, 1, newest) for _ in range(25)), size=10))
        self.assertEqual([receipt.accepted for receipt in receipts], [10, 10, 5])

    def test_rank_embedding_explanation_and_status_have_their_forms(self):
        ranking = self.client.rank(1, k=3)
        self.assertEqual(sorted((one.score for one in ranking.ranked), reverse=True), [one.score for one in ranking.ranked])
        self.assertEqual(self.client.rank(1, candidates=[1]).ranked[0].dst, 1)
        self.assertGreater(len(self.client.embedding(1, side="source").embedding), 0)
        explained = self.client.explain(1, 1)
        self.assertAlmostEqual(explained.score, self.client.score([(1, 1)]).scores[0], places=4)
        self.assertTrue(all(neighbour.side in ("source", "destination") for neighbour in explained.src))
        self.assertIn("durable_seq", self.client.status())
        self.assertTrue(self.client.is_ready())

    def test_refusals_say_what_is_wrong(self):
        with self.assertRaises(Refused) as caught:
            self.client.score([(10**15, 1)])
        self.assertEqual((caught.exception.status, caught.exception.code), (404, "unknown_node"))
        with self.assertRaises(Refused) as caught:
            self.client.send([Event(1, 1, -(10**12))])
        self.assertEqual(caught.exception.status, 409)

    def test_threads_share_a_client(self):
        found = []
        threads = [threading.Thread(target=lambda: found.append(self.client.score([(1, 1)]).scores[0])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(found), 8)


class WithoutAServer(unittest.TestCase):
    def test_nobody_there_is_said_with_the_address(self):
        with self.assertRaisesRegex(Unreachable, "127.0.0.1:1"):
            Client("http://127.0.0.1:1", deadline=0.05).score([(1, 1)])

    def test_what_is_no_address_is_said(self):
        with self.assertRaisesRegex(ValueError, "looks like http://"):
            Client("ftp://example.org")


if __name__ == "__main__":
    unittest.main()
