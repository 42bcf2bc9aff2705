"""Formats a report as a table for people or as JSON for programs."""

import orjson

from registry.doctor.examine import Report, Result


def as_text(report: Report) -> str:
    """One line for each check. A check that found faults has examples and advice below its line."""
    rows = [("check", "found", "left", "")]
    rows += [(each.name, _figure(each, each.found), _figure(each, each.left), _said(each)) for each in report.results]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = []
    for (name, found, left, said), result in zip(rows, (None, *report.results), strict=True):
        lines.append(f"{name:<{widths[0]}}  {found:>{widths[1]}}  {left:>{widths[2]}}  {said}".rstrip())
        if result is not None:
            more = result.found - len(result.examples)
            lines += [f"    {example}" for example in result.examples]
            lines += [f"    and {more} more"] if more > 0 else []
            lines += [f"  {_advice(report, result)}"] if result.found else []
    lines.append(_verdict(report))
    return "\n".join(lines)


def as_json(report: Report) -> str:
    return orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2).decode()


def _figure(result: Result, count: int) -> str:
    return "?" if result.problem else str(count)


def _said(result: Result) -> str:
    return f"could not be checked: {result.problem}" if result.problem else result.law


def _advice(report: Report, result: Result) -> str:
    if not result.mendable:
        return f"To do by hand: {result.remedy}"
    if not report.repaired:
        return f"--repair would: {result.remedy}"
    return f"{'Tried' if result.left else 'Done'}: {result.remedy}"


def _verdict(report: Report) -> str:
    found, left = (sum(getattr(result, name) for result in report.results) for name in ("found", "left"))
    unmade = [result.name for result in report.results if result.problem]
    if unmade:
        return f"Not everything could be checked: {', '.join(unmade)}."
    if not found:
        return "Nothing is wrong."
    return f"{found} found, {left} left." if report.repaired else f"{found} found."
