"""What the server counts, in the text format of Prometheus."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Requests by route, method and status, and their seconds by route. Routes are templates: no ids, no user
    content."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._seconds: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * (len(BUCKETS) + 2))

    def note(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests[route, method, status] += 1
        cells = self._seconds[route]
        for place, bound in enumerate(BUCKETS):
            cells[place] += seconds <= bound
        cells[-2] += 1
        cells[-1] += seconds

    def render(self, gauges: Mapping[str, float]) -> str:
        """The page; `gauges` are further values by name."""
        lines = ["# TYPE pullpush_requests_total counter"]
        for (route, method, status), count in sorted(self._requests.items()):
            lines.append(f'pullpush_requests_total{{route="{route}",method="{method}",status="{status}"}} {count}')
        lines.append("# TYPE pullpush_request_seconds histogram")
        for route, cells in sorted(self._seconds.items()):
            for bound, count in zip(BUCKETS, cells, strict=False):
                lines.append(f'pullpush_request_seconds_bucket{{route="{route}",le="{bound}"}} {count:.0f}')
            lines.append(f'pullpush_request_seconds_bucket{{route="{route}",le="+Inf"}} {cells[-2]:.0f}')
            lines.append(f'pullpush_request_seconds_count{{route="{route}"}} {cells[-2]:.0f}')
            lines.append(f'pullpush_request_seconds_sum{{route="{route}"}} {cells[-1]:.6f}')
        for name, value in gauges.items():
            lines += [f"# TYPE pullpush_{name} gauge", f"pullpush_{name} {value:g}"]
        return "\n".join(lines) + "\n"
