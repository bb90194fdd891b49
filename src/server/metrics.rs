//! What the operator sees: Prometheus metrics, with labels of few values.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry as Metrics};

use crate::api::Kind;
use crate::auth::Caller;
use crate::gateway::Answers;
use crate::registry::Registry;

/// What tells one series of requests from another. None is a client's text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// Which door.
    pub door: &'static str,
    /// Kube's verb, or `other`.
    pub verb: &'static str,
    /// The resource's plural name, or `none`.
    pub resource: &'static str,
    /// The HTTP status code.
    pub code: u16,
}

/// The same without the code: latencies are few enough so.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LatencyLabels {
    /// Which door.
    pub door: &'static str,
    /// Kube's verb, or `other`.
    pub verb: &'static str,
}

/// The counters that requests move.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<LatencyLabels, Histogram, fn() -> Histogram>,
    /// The series that moved last: most requests are like the one before, and to find a series among all takes
    /// hashing of its labels and a lock, twice.
    last: Arc<ArcSwapOption<Series>>,
    /// Requests being answered, watches included.
    pub in_flight: Gauge<i64>,
}

/// The two series that a request moves.
#[derive(Debug)]
struct Series {
    labels: RequestLabels,
    requests: Counter,
    /// None of those who wait for ever.
    seconds: Option<Histogram>,
}

fn buckets() -> Histogram {
    Histogram::new([0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

impl Default for RequestMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(buckets),
            last: Arc::default(),
            in_flight: Gauge::default(),
        }
    }
}

impl RequestMetrics {
    /// Counts a request. `took` is the time to the first byte of its answer; `None` for watches, which wait.
    pub fn record(&self, labels: &RequestLabels, took: Option<Duration>) {
        let last = self.last.load();
        if let Some(series) = last.as_ref().filter(|series| series.labels == *labels) {
            return series.record(took);
        }
        let latency = LatencyLabels { door: labels.door, verb: labels.verb };
        let series = Series {
            labels: labels.clone(),
            requests: self.requests.get_or_create(labels).clone(),
            seconds: took.map(|_| self.seconds.get_or_create(&latency).clone()),
        };
        series.record(took);
        self.last.store(Some(Arc::new(series)));
    }
}

impl Series {
    fn record(&self, took: Option<Duration>) {
        self.requests.inc();
        if let (Some(seconds), Some(took)) = (&self.seconds, took) {
            seconds.observe(took.as_secs_f64());
        }
    }
}

/// All metrics: those that requests move, and those that are read off when they are asked for.
#[must_use]
pub fn all(registry: &Arc<Registry>, answers: &Answers, requests: &RequestMetrics) -> Metrics {
    let mut metrics = Metrics::with_prefix("imagehub");
    metrics.register("requests", "Requests answered", requests.requests.clone());
    metrics.register("request_duration_seconds", "Time to the first byte of an answer", requests.seconds.clone());
    metrics.register("requests_in_flight", "Requests being answered, watches included", requests.in_flight.clone());
    let build: Family<Vec<(&'static str, &'static str)>, Gauge<u64, AtomicU64>> = Family::default();
    build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION"))]).set(1);
    metrics.register("build_info", "The version that runs", build);
    metrics.register_collector(Box::new(Catalogue(Arc::clone(registry), answers.clone())));
    metrics
}

/// What the catalogue is and what its caches did.
#[derive(Debug)]
struct Catalogue(Arc<Registry>, Answers);

impl Collector for Catalogue {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let visible = self.0.reader(&Caller::system()).visible;
        let objects: Family<Vec<(&'static str, &'static str)>, Gauge<u64, AtomicU64>> = Family::default();
        for kind in Kind::ALL {
            objects.get_or_create(&vec![("resource", kind.plural())]).set(visible.stored(kind) as u64);
        }
        encode(&mut encoder, "objects", "Objects in the catalogue", &objects)?;
        let doubles = self.0.not_served() as u64;
        gauge(&mut encoder, "images_not_served", "Images whose spec.name an older one has", doubles)?;
        let damaged = self.0.damaged_records() as u64;
        gauge(&mut encoder, "damaged_records", "Stored records that can't be read, kept apart", damaged)?;
        let (events, bytes) = visible.window_size();
        gauge(&mut encoder, "revision", "The revision of the last commit", visible.revision().0)?;
        gauge(&mut encoder, "window_events", "Events that watches can resume from", events as u64)?;
        gauge(&mut encoder, "window_bytes", "About the bytes that the window keeps", bytes as u64)?;
        let packs = self.0.packs().stats();
        counter(&mut encoder, "pack_cache_hits", "Pack contents that were in the cache", packs.hits)?;
        counter(&mut encoder, "pack_cache_misses", "Pack contents that were computed", packs.misses)?;
        counter(&mut encoder, "pack_cache_evictions", "Pack contents that went from the cache", packs.evictions)?;
        gauge(&mut encoder, "pack_cache_entries", "Pack contents in the cache", packs.entries)?;
        gauge(&mut encoder, "pack_cache_bytes", "Their bytes", packs.bytes)?;
        let answers = self.1.stats();
        counter(
            &mut encoder,
            "answer_cache_hits",
            "Answers of the gateway that were kept and still right",
            answers.hits,
        )?;
        counter(&mut encoder, "answer_cache_misses", "Answers of the gateway that were made", answers.misses)?;
        gauge(&mut encoder, "answer_cache_entries", "Answers of the gateway that are kept", answers.entries)?;
        gauge(&mut encoder, "answer_cache_bytes", "About their bytes", answers.bytes)
    }
}

fn encode(encoder: &mut DescriptorEncoder, name: &str, help: &str, metric: &impl Metric) -> fmt::Result {
    let metric_encoder = encoder.encode_descriptor(name, help, None, EncodeMetric::metric_type(metric))?;
    EncodeMetric::encode(metric, metric_encoder)
}

fn gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> fmt::Result {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

fn counter(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> fmt::Result {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}
