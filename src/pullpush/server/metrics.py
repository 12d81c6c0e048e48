"""What the server counts, in the text format of Prometheus."""

from collections.abc import Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

METHODS = ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS")
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Requests by route, method and status, and their seconds by route; memory and files of the process.

    What a client writes is no label: routes are templates, a method that is none of HTTP's is `other`. `gauges`:
    further values by name, asked for when they are.
    """

    def __init__(self, gauges: Mapping[str, Callable[[], float]] | None = None) -> None:
        self._registry = CollectorRegistry()
        labels = ["route", "method", "status"]
        self._requests = Counter("pullpush_requests", "Requests answered", labels, registry=self._registry)
        self._seconds = Histogram(
            "pullpush_request_seconds", "Seconds a request", ["route"], buckets=BUCKETS, registry=self._registry
        )
        ProcessCollector(registry=self._registry)
        for name, value in (gauges or {}).items():
            gauge = Gauge(f"pullpush_{name}", name.replace("_", " "), registry=self._registry)
            gauge.set_function(value)

    def note(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.labels(route, method if method in METHODS else "other", str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def render(self) -> bytes:
        """The page, of `CONTENT_TYPE_LATEST`."""
        return generate_latest(self._registry)
