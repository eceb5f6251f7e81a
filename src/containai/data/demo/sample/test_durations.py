import unittest

from durations import parse


class ParseTest(unittest.TestCase):
    def test_single_units(self):
        self.assertEqual(parse("90s"), 90)
        self.assertEqual(parse("2h"), 7200)


if __name__ == "__main__":
    unittest.main()
