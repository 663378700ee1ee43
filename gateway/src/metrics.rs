//! What a gateway counts, each with the label `node` and none that a client can choose.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use ringcast_gateway_core::gateway::Counts;
use ringcast_gateway_core::outbox::Lost;
use ringcast_gateway_core::route::SlowConsumer;
use ringcast_proto::NodeId;

use crate::handshake::Refusal;

/// The metrics of one gateway.
pub(crate) struct Metrics {
    connections: Gauge,
    sessions_joined: Gauge,
    store_connected: Gauge,
    deliveries: Counter,
    client_publishes: Counter,
    joins: Counter,
    leaves: Counter,
    slow_consumers: SlowConsumers,
    publications_dropped: Counter,
    gaps_by_slow_consumers: Counter,
    gaps_by_owners: Counter,
    resumed: Counter,
    not_resumed: Counter,
    resumed_ahead: Counter,
    binary_left_out: Counter,
    outbox_bytes: Gauge,
    frames_in: Counter,
    undecodable: Counter,
    calls_failed: Counter,
    handshakes_refused: [Counter; Refusal::REASONS.len()],
    publish_lane: LaneMetrics,
    bind_lane: LaneMetrics,
    publish_seconds: Histogram,
}

/// Clients that read too slowly, by what became of them.
struct SlowConsumers {
    gap: Counter,
    latest: Counter,
    closed: Counter,
}

/// The calls of one kind to topic servers.
pub(crate) struct LaneMetrics {
    batch_entries: Histogram,
    wait_seconds: Histogram,
}

impl LaneMetrics {
    /// A call leaves with so many entries; the first of them had waited so long, if it leaves for the first time.
    pub(crate) fn leaves(&self, entries: usize, waited: Option<Duration>) {
        self.batch_entries.record(entries as f64);
        if let Some(waited) = waited {
            self.wait_seconds.record(waited);
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    pub(crate) fn register(recorder: &dyn Recorder, node: &NodeId) -> Arc<Metrics> {
        let metadata = Metadata::new("ringcast", Level::INFO, None);
        let label = || Label::new("node", node.as_str().to_owned());
        let counter = |name: &'static str, about: &'static str| {
            recorder.describe_counter(name.into(), None, about.into());
            recorder.register_counter(&Key::from_parts(name, vec![label()]), &metadata)
        };
        let gauge = |name: &'static str, about: &'static str| {
            recorder.describe_gauge(name.into(), None, about.into());
            recorder.register_gauge(&Key::from_parts(name, vec![label()]), &metadata)
        };
        let by = |name: &'static str, key: &'static str, value: &'static str, about: &'static str| {
            recorder.describe_counter(name.into(), None, about.into());
            let labels = vec![label(), Label::from_static_parts(key, value)];
            recorder.register_counter(&Key::from_parts(name, labels), &metadata)
        };
        let slow = |outcome| {
            let about =
                "Times a client began to read too slowly and lost publications, or was closed for it.";
            by("ringcast_slow_consumers_total", "outcome", outcome, about)
        };
        let gaps = |cause| {
            by(
                "ringcast_gaps_total",
                "cause",
                cause,
                "Gaps told to channels with positions.",
            )
        };
        let resumes = |outcome| {
            by(
                "ringcast_resumes_total",
                "outcome",
                outcome,
                "Joins with a position.",
            )
        };
        let refused = "ringcast_handshakes_refused_total";
        recorder.describe_counter(
            refused.into(),
            None,
            "Handshakes that did not become a WebSocket.".into(),
        );
        let refused = |reason: &'static str| {
            let labels = vec![label(), Label::from_static_parts("reason", reason)];
            recorder.register_counter(&Key::from_parts(refused, labels), &metadata)
        };
        let (batch, wait) = ("ringcast_lane_batch_entries", "ringcast_lane_wait_seconds");
        let histogram = |name: &'static str, labels| {
            recorder.register_histogram(&Key::from_parts(name, labels), &metadata)
        };
        let about = "Publishes, binds or deliveries in a call to another node.";
        recorder.describe_histogram(batch.into(), Some(Unit::Count), about.into());
        let about = "How long the first of them had waited for the lane.";
        recorder.describe_histogram(wait.into(), Some(Unit::Seconds), about.into());
        let round_trip = "ringcast_publish_seconds";
        let about = "From a call with publishes to its answer.";
        recorder.describe_histogram(round_trip.into(), Some(Unit::Seconds), about.into());
        let lane = |call: &'static str| {
            let labels = || vec![label(), Label::from_static_parts("call", call)];
            LaneMetrics {
                batch_entries: histogram(batch, labels()),
                wait_seconds: histogram(wait, labels()),
            }
        };
        Arc::new(Metrics {
            publish_lane: lane("publish"),
            bind_lane: lane("bind"),
            publish_seconds: histogram(round_trip, vec![label()]),
            connections: gauge("ringcast_connections", "WebSocket connections."),
            sessions_joined: gauge(
                "ringcast_sessions_joined",
                "Channels joined, over all connections.",
            ),
            store_connected: gauge("ringcast_store_connected", "1 while the ring store is heard."),
            deliveries: counter("ringcast_deliveries_total", "Publications written to a member."),
            client_publishes: counter("ringcast_client_publishes_total", "Publishes taken from clients."),
            joins: counter("ringcast_joins_total", "Joins that were accepted."),
            leaves: counter("ringcast_leaves_total", "Channels that ended."),
            slow_consumers: SlowConsumers {
                gap: slow("gap"),
                latest: slow("latest"),
                closed: slow("closed"),
            },
            publications_dropped: counter(
                "ringcast_publications_dropped_total",
                "Publications left out because their receivers read too slowly.",
            ),
            gaps_by_slow_consumers: gaps("slow_consumer"),
            gaps_by_owners: gaps("owner"),
            resumed: resumes("recovered"),
            not_resumed: resumes("not_recovered"),
            resumed_ahead: counter(
                "ringcast_resumes_ahead_total",
                "Joins with a position ahead of the topic, which should not happen.",
            ),
            binary_left_out: counter(
                "ringcast_binary_left_out_total",
                "Binary publications that a receiver's serializer has no words for.",
            ),
            outbox_bytes: gauge("ringcast_outbox_bytes", "Bytes that wait for slow clients."),
            frames_in: counter("ringcast_frames_in_total", "Messages received from clients."),
            undecodable: counter(
                "ringcast_frames_undecodable_total",
                "Messages that closed their connection with 1011.",
            ),
            calls_failed: counter(
                "ringcast_calls_failed_total",
                "Calls to topic servers without an answer.",
            ),
            handshakes_refused: Refusal::REASONS.map(refused),
        })
    }

    pub(crate) fn connections(&self, count: usize) {
        self.connections.set(count as f64);
    }

    /// What the core counts; a channel that was joined and is not any more was left.
    pub(crate) fn core(&self, counts: Counts, joined: usize) {
        self.sessions_joined.set(joined as f64);
        self.joins.absolute(counts.joins);
        self.leaves.absolute(counts.joins.saturating_sub(joined as u64));
        self.client_publishes.absolute(counts.client_publishes);
        self.deliveries.absolute(counts.deliveries);
        self.gaps_by_owners.absolute(counts.gaps);
        self.resumed.absolute(counts.resumed);
        self.not_resumed.absolute(counts.not_resumed);
        self.resumed_ahead.absolute(counts.resumed_ahead);
        self.binary_left_out.absolute(counts.left_out);
    }

    pub(crate) fn publish_lane(&self) -> &LaneMetrics {
        &self.publish_lane
    }

    pub(crate) fn bind_lane(&self) -> &LaneMetrics {
        &self.bind_lane
    }

    pub(crate) fn published(&self, took: Duration) {
        self.publish_seconds.record(took);
    }

    pub(crate) fn store_connected(&self, connected: bool) {
        self.store_connected.set(f64::from(u8::from(connected)));
    }

    /// A slow client lost these.
    pub(crate) fn lost(&self, lost: &Lost) {
        if lost.begins {
            match lost.policy {
                SlowConsumer::Latest => self.slow_consumers.latest.increment(1),
                SlowConsumer::Gap | SlowConsumer::Close => self.slow_consumers.gap.increment(1),
            }
        }
        self.publications_dropped.increment(lost.publications);
        self.gaps_by_slow_consumers.increment(lost.gaps);
    }

    pub(crate) fn slow_consumer_closed(&self) {
        self.slow_consumers.closed.increment(1);
    }

    /// What waits in all outboxes.
    pub(crate) fn outbox_bytes(&self, bytes: usize) {
        self.outbox_bytes.set(bytes as f64);
    }

    pub(crate) fn frame_in(&self) {
        self.frames_in.increment(1);
    }

    pub(crate) fn undecodable(&self) {
        self.undecodable.increment(1);
    }

    pub(crate) fn call_failed(&self) {
        self.calls_failed.increment(1);
    }

    pub(crate) fn handshake_refused(&self, refusal: &Refusal) {
        if let Some(index) = Refusal::REASONS
            .iter()
            .position(|reason| *reason == refusal.reason())
        {
            self.handshakes_refused[index].increment(1);
        }
    }
}
