"""What croniter and zoneinfo say about schedules, for ReferenceTests.swift.

Reads a JSON array of questions from stdin and writes the array of answers. Shares no code and no approach with the
program: croniter names the wall times, zoneinfo says when each happens, and a set puts them in order.
"""
import datetime
import json
import sys
from zoneinfo import ZoneInfo

from croniter import croniter

UTC = datetime.timezone.utc
DAY = 86_400


def naive(seconds):
    return datetime.datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def seconds(wall):
    return int(wall.replace(tzinfo=UTC).timestamp())


def iterator(cron, start):
    # The "bug" is Vixie's: a day field that begins with * does not make the other one optional. It is crontab(5).
    return croniter(
        cron, naive(start), ret_type=datetime.datetime, second_at_beginning=True, implement_cron_bug=True,
        max_years_between_matches=100)


def walls(cron, start, end):
    """Wall times of an expression from `start` to before `end`, both as seconds without a zone."""
    found = []
    for wall in iterator(cron, start - 1):
        if seconds(wall) >= end:
            return found
        found.append(wall)


def next_walls(question):
    steps = iterator(question["cron"], question["after"])
    return [seconds(next(steps)) for _ in range(question["count"])]


def offset(instant, zone):
    return datetime.datetime.fromtimestamp(instant, zone).utcoffset()


def resolve(wall, zone):
    """When a wall time happens (in order), and the first instant after the gap where it does not happen at all."""
    first = wall.replace(tzinfo=zone, fold=0)
    second = wall.replace(tzinfo=zone, fold=1)
    early, late = int(first.timestamp()), int(second.timestamp())
    if first.utcoffset() == second.utcoffset():
        return [early], None
    if early < late:
        return [early, late], None
    # A gap: `late` is before it and `early` after it, by their offsets.
    low, high = late, early
    while high - low > 1:
        middle = (low + high) // 2
        if offset(middle, zone) == offset(late, zone):
            low = middle
        else:
            high = middle
    return [], high


def instants(resolved, gap, fold):
    found = set()
    for happens, after in resolved:
        if after is not None:
            if gap == "after":
                found.add(after)
        elif len(happens) == 1:
            found.add(happens[0])
        else:
            found.update({"first": happens[:1], "second": happens[1:], "both": happens}[fold])
    return sorted(found)


def windows(question):
    """Every policy in the days around each jump of a zone."""
    zone = ZoneInfo(question["zone"])
    jumps, instant = [], question["from"]
    while instant < question["until"]:
        if offset(instant, zone) != offset(instant + DAY, zone):
            jumps.append(instant)
        instant += DAY
    answers = []
    for jump in jumps:
        start, end = jump - DAY, jump + 2 * DAY
        resolved = [resolve(wall, zone) for wall in walls(question["cron"], start - 2 * DAY, end + 2 * DAY)]
        for gap in ["skip", "after"]:
            for fold in ["first", "second", "both"]:
                inside = [instant for instant in instants(resolved, gap, fold) if start <= instant < end]
                answers.append({"gap": gap, "fold": fold, "from": start, "until": end, "instants": inside})
    return answers


def span(question):
    zone = ZoneInfo(question["zone"])
    start, end = question["from"], question["until"]
    resolved = [resolve(wall, zone) for wall in walls(question["cron"], start - 2 * DAY, end + 2 * DAY)]
    return [instant for instant in instants(resolved, question["gap"], question["fold"]) if start <= instant < end]


def calendar(question):
    holidays = {datetime.date.fromisoformat(text) for text in question["holidays"]}
    start, end = question["from"], question["until"]
    step = {"next_business_day": 1, "previous_business_day": -1}.get(question["on_holiday"])
    found = set()
    for wall in walls(question["cron"], start - 40 * DAY, end + 40 * DAY):
        business = lambda: (wall.isoweekday() % 7) not in question["weekend"] and wall.date() not in holidays
        if question["on_holiday"] == "skip" and not business():
            continue
        while step and not business():
            wall += datetime.timedelta(days=step)
        found.add(seconds(wall))
    return sorted(instant for instant in found if start <= instant < end)


answers = {"next": next_walls, "windows": windows, "span": span, "calendar": calendar}
json.dump([answers[question["ask"]](question) for question in json.load(sys.stdin)], sys.stdout)
