//! Every metric of a topic server, each with the label `node`.
//!
//! *Invariant:* topics, sessions and users are never labels, and there are no statics: in one process many nodes count.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use ringcast_proto::NodeId;
use ringcast_topic_server_core::Counts;

/// Where metrics go.
pub(crate) type SharedRecorder = Arc<dyn Recorder + Send + Sync>;

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

pub(crate) struct Metrics {
    recorder: SharedRecorder,
    node: NodeId,
    publishes: Counter,
    binds: Counter,
    fetches: Counter,
    unsequenced: Counter,
    duplicates: Counter,
    slots_owned: Gauge,
    topics: Gauge,
    members: Gauge,
    history_bytes: Gauge,
    history_bytes_max: Gauge,
    shed: Counter,
    store_connected: Gauge,
    moves: Counter,
    moves_in: Gauge,
    moves_out: Gauge,
    move_pause: Histogram,
    move_bytes: Counter,
}

/// The metrics of one lane.
pub(crate) struct LaneMetrics {
    calls: Counter,
    entries: Counter,
    publications: Counter,
    dropped: Counter,
    batch_entries: Histogram,
    wait: Histogram,
}

impl Metrics {
    pub(crate) fn new(recorder: SharedRecorder, node: NodeId) -> Metrics {
        let key = |name: &'static str| Key::from_parts(name, vec![Label::new("node", node.to_string())]);
        let counter = |name, what| {
            recorder.describe_counter(name_of(name), Some(Unit::Count), what_of(what));
            recorder.register_counter(&key(name), &METADATA)
        };
        let gauge = |name, unit, what| {
            recorder.describe_gauge(name_of(name), Some(unit), what_of(what));
            recorder.register_gauge(&key(name), &METADATA)
        };
        let under_way = "ringcast_moves_under_way";
        recorder.describe_gauge(
            name_of(under_way),
            Some(Unit::Count),
            what_of("slots on their way to this node (in) and away from it (out)"),
        );
        let direction = |direction: &'static str| {
            let labels = vec![
                Label::new("node", node.to_string()),
                Label::from_static_parts("direction", direction),
            ];
            recorder.register_gauge(&Key::from_parts(under_way, labels), &METADATA)
        };
        let pause = "ringcast_move_pause_seconds";
        recorder.describe_histogram(
            name_of(pause),
            Some(Unit::Seconds),
            what_of("from a slot's seal at its old owner to the first append at this node"),
        );
        Metrics {
            moves: counter(
                "ringcast_moves_total",
                "moves that made this node the owner of a slot",
            ),
            move_bytes: counter("ringcast_move_bytes_total", "bytes of slots that were taken in"),
            moves_in: direction("in"),
            moves_out: direction("out"),
            move_pause: recorder.register_histogram(&key(pause), &METADATA),
            publishes: counter("ringcast_publishes_total", "publications appended"),
            binds: counter("ringcast_binds_total", "binds of gateways"),
            unsequenced: counter(
                "ringcast_publishes_unsequenced_total",
                "publications sent without an offset",
            ),
            duplicates: counter(
                "ringcast_publishes_duplicate_total",
                "publishes that were repeats, by the ids clients gave them",
            ),
            fetches: counter(
                "ringcast_fetches_total",
                "topics whose last publications were asked for",
            ),
            slots_owned: gauge("ringcast_slots_owned", Unit::Count, "slots this node serves"),
            topics: gauge("ringcast_topics", Unit::Count, "topics held"),
            members: gauge(
                "ringcast_members",
                Unit::Count,
                "sessions joined to topics held here",
            ),
            history_bytes: gauge(
                "ringcast_history_bytes",
                Unit::Bytes,
                "bytes of publications kept, and of the ids of publishes",
            ),
            history_bytes_max: gauge(
                "ringcast_history_bytes_max",
                Unit::Bytes,
                "bytes that may take; beyond, idle topics lose theirs",
            ),
            shed: counter(
                "ringcast_history_shed_total",
                "publications that went since the memory for histories was full",
            ),
            store_connected: gauge(
                "ringcast_store_connected",
                Unit::Count,
                "1 while the ring store is heard",
            ),
            recorder: recorder.clone(),
            node,
        }
    }

    pub(crate) fn lane(&self, gateway: &NodeId) -> LaneMetrics {
        let labels = || {
            vec![
                Label::new("node", self.node.to_string()),
                Label::new("gateway", gateway.to_string()),
            ]
        };
        let counter = |name: &'static str, what| {
            self.recorder
                .describe_counter(name_of(name), Some(Unit::Count), what_of(what));
            self.recorder
                .register_counter(&Key::from_parts(name, labels()), &METADATA)
        };
        let batch = "ringcast_lane_batch_entries";
        self.recorder.describe_histogram(
            name_of(batch),
            Some(Unit::Count),
            what_of("entries a Deliver call"),
        );
        let wait = "ringcast_lane_wait_seconds";
        self.recorder.describe_histogram(
            name_of(wait),
            Some(Unit::Seconds),
            what_of("how long the oldest entry of a Deliver call had waited for it"),
        );
        let node = vec![Label::new("node", self.node.to_string())];
        LaneMetrics {
            calls: counter(
                "ringcast_deliver_calls_total",
                "Deliver calls sent, retries included",
            ),
            entries: counter("ringcast_deliver_entries_total", "topics in Deliver calls"),
            publications: counter(
                "ringcast_deliver_publications_total",
                "publications in Deliver calls",
            ),
            dropped: counter("ringcast_lane_dropped_total", "entries that found the lane full"),
            batch_entries: self
                .recorder
                .register_histogram(&Key::from_parts(batch, node), &METADATA),
            wait: self
                .recorder
                .register_histogram(&Key::from_parts(wait, labels()), &METADATA),
        }
    }

    pub(crate) fn bound(&self, binds: usize) {
        self.binds.increment(binds as u64);
    }

    pub(crate) fn fetched(&self, fetches: usize) {
        self.fetches.increment(fetches as u64);
    }

    pub(crate) fn publish_refused(&self, reason: &'static str, publishes: usize) {
        let name = "ringcast_publish_refused_total";
        let labels = vec![
            Label::new("node", self.node.to_string()),
            Label::new("reason", reason),
        ];
        self.recorder.describe_counter(
            name_of(name),
            Some(Unit::Count),
            what_of("publishes not appended"),
        );
        self.recorder
            .register_counter(&Key::from_parts(name, labels), &METADATA)
            .increment(publishes as u64);
    }

    /// A slot holds something else than it did.
    pub(crate) fn counted(&self, before: Counts, after: Counts) {
        let by = |gauge: &Gauge, before: usize, after: usize| {
            if before != after {
                gauge.increment(after as f64 - before as f64);
            }
        };
        by(&self.topics, before.topics, after.topics);
        by(&self.members, before.members, after.members);
        by(&self.history_bytes, before.history_bytes, after.history_bytes);
        self.publishes
            .increment(after.appended.saturating_sub(before.appended));
        self.shed.increment(after.shed.saturating_sub(before.shed));
        self.unsequenced
            .increment(after.unsequenced.saturating_sub(before.unsequenced));
        self.duplicates
            .increment(after.duplicates.saturating_sub(before.duplicates));
    }

    /// So many bytes of history there may be.
    pub(crate) fn history_bytes_max(&self, bytes: usize) {
        self.history_bytes_max.set(bytes as f64);
    }

    pub(crate) fn slots_owned(&self, slots: usize) {
        self.slots_owned.set(slots as f64);
    }

    /// A slot came here, and nobody could publish to it for so long.
    pub(crate) fn moved(&self, pause: Duration) {
        self.moves.increment(1);
        self.move_pause.record(pause);
    }

    /// A page of a slot came, or an answer without one.
    pub(crate) fn page(&self, bytes: usize) {
        self.move_bytes.increment(bytes as u64);
    }

    /// So many slots are on their way here, and so many away from here.
    pub(crate) fn moves_under_way(&self, coming: usize, going: usize) {
        self.moves_in.set(coming as f64);
        self.moves_out.set(going as f64);
    }

    pub(crate) fn store_connected(&self, connected: bool) {
        self.store_connected.set(if connected { 1.0 } else { 0.0 });
    }
}

impl LaneMetrics {
    /// A call of so many entries is on its way; `carrying` of them have publications, so many in all.
    pub(crate) fn call(&self, entries: usize, carrying: usize, publications: usize) {
        self.calls.increment(1);
        self.entries.increment(carrying as u64);
        self.publications.increment(publications as u64);
        self.batch_entries.record(entries as f64);
    }

    /// The call that left had an entry that had waited for so long, and none that had longer.
    pub(crate) fn waited(&self, wait: Duration) {
        self.wait.record(wait);
    }

    pub(crate) fn dropped(&self) {
        self.dropped.increment(1);
    }
}

fn name_of(name: &'static str) -> metrics::KeyName {
    metrics::KeyName::from_const_str(name)
}

fn what_of(what: &'static str) -> metrics::SharedString {
    metrics::SharedString::const_str(what)
}
