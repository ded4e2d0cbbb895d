//! How one client or server hands its values over to the recorder of the program.
//!
//! | lock | protects | held |
//! | --- | --- | --- |
//! | [`SOURCES`] | who has something to publish | for a moment |
//! | [`NAMES`] | which names are in use | for a moment |
//! | `Name::living` | who of that name has not ended | for a moment |
//! | `Name::publishing` | the order in which values reach the recorder | while values are read, and around the recorder's code |
//! | `Outlet::published` | what was handed over | within `publishing` |
//!
//! `publishing` is the only lock of this crate that is held around a recorder's code. Whoever has it takes
//! others for a moment each, and nobody who holds another one waits for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Weak};

use ::metrics::{Key, KeyName, Label, Level, Metadata, Recorder, SharedString, with_recorder};

use super::names::{self, Sample, UP, Value};
use crate::failure::guarded;
use crate::sync::{Mutex, Process};

static METADATA: Metadata<'static> = Metadata::new("everlink", Level::INFO, Some("everlink"));

/// For how many recorders it is remembered what they were given: a process has one, and tests have
/// one for each thread.
const RECORDERS: usize = 8;

/// What has something to publish, for as long as it lives.
pub(crate) trait Published: Send + Sync {
    fn outlet(&self) -> &Outlet;

    fn publish(&self, extent: Extent);
}

/// All of them by the number of their outlet, each with the process that has it.
static SOURCES: Mutex<BTreeMap<u64, Registered>> = Mutex::new(BTreeMap::new());

type Registered = (Process, Weak<dyn Published>);

/// Has it published with the others until its outlet is dropped.
pub(crate) fn register<S: Published + 'static>(source: &Arc<S>) {
    let (id, source): (_, Weak<S>) = (source.outlet().id, Arc::downgrade(source));
    SOURCES.lock().insert(id, (Process::this(), source));
}

/// Those that live in this process: a child of a `fork` has none of the parent's.
pub(super) fn sources() -> Vec<Arc<dyn Published>> {
    let sources = SOURCES.lock();
    let ours = sources.values().filter(|(process, _)| process.is_this());
    ours.filter_map(|(_, source)| source.upgrade()).collect()
}

/// Each name that is in use: `client` or `server`, and what that is called; with how many use it.
static NAMES: LazyLock<Mutex<Names>> = LazyLock::new(Mutex::default);

type Names = HashMap<Owner, (usize, Arc<Name>)>;

/// The recorders that know what the metrics mean.
static DESCRIBED: Mutex<PerRecorder<()>> = Mutex::new(PerRecorder(Vec::new()));

/// The name and the value of the label that says whose a series is.
type Owner = (&'static str, String);

/// Those who share a name, and so their series.
#[derive(Debug, Default)]
struct Name {
    /// The youngest is the last.
    living: Mutex<Vec<u64>>,
    publishing: Mutex<()>,
}

/// Where the values of one client or server go.
#[derive(Debug)]
pub(crate) struct Outlet {
    owner: Owner,
    id: u64,
    name: Arc<Name>,
    published: Mutex<PerRecorder<HashMap<Series, u64>>>,
}

/// Metric and value of the second label.
type Series = (&'static str, Option<&'static str>);

/// How much is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    Whole,
    /// Whether the link is up, and the counters that have changed.
    Step,
    /// The counters that have changed; no gauge has a value from here on.
    Last,
}

/// Something for each recorder, by its address: the newest are remembered.
#[derive(Debug, Default)]
struct PerRecorder<T>(Vec<(usize, T)>);

impl<T: Default> PerRecorder<T> {
    /// What there is for this one, and whether it is new.
    fn of(&mut self, recorder: &dyn Recorder) -> (&mut T, bool) {
        let address = std::ptr::from_ref(recorder).cast::<()>().addr();
        let found = self.0.iter().position(|(of, _)| *of == address);
        let index = found.unwrap_or_else(|| {
            if self.0.len() == RECORDERS {
                self.0.remove(0);
            }
            self.0.push((address, T::default()));
            self.0.len() - 1
        });
        (&mut self.0[index].1, found.is_none())
    }
}

impl Outlet {
    /// `label` is `client` or `server`.
    pub(crate) fn new(label: &'static str, name: String) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (owner, id) = ((label, name), NEXT.fetch_add(1, Relaxed));
        let name = {
            let mut names = NAMES.lock();
            let (users, name) = names.entry(owner.clone()).or_default();
            *users += 1;
            Arc::clone(name)
        };
        name.living.lock().push(id);
        Self { owner, id, name, published: Mutex::default() }
    }

    /// Reads the values and hands them over. Nobody else of this name does so meanwhile: what was read
    /// earlier never takes the place of what was read later.
    pub(crate) fn publish(&self, extent: Extent, read: impl FnOnce() -> Vec<Sample>) {
        let publishing = self.name.publishing.lock();
        let has_gauges = self.name.living.lock().last() == Some(&self.id);
        if extent == Extent::Last {
            self.end();
        }
        let samples = read();
        let result = with_recorder(|recorder| {
            let guarded = |code: &dyn Fn()| guarded("metrics recorder", code);
            let described = guarded(&|| describe_once(recorder));
            // each by itself: one that panics over a series gets the others all the same
            let handed_over = samples.iter().map(|sample| {
                guarded(&|| match sample.value {
                    Value::Counter(total) => self.count(recorder, extent, sample, total),
                    Value::Gauge(value) if has_gauges => {
                        self.set(recorder, extent, sample, value);
                    }
                    Value::Gauge(_) => {}
                })
            });
            handed_over.fold(described, |before, now| before.and(now))
        });
        // the logger is the program's too
        drop(publishing);
        if let Err(panic) = result {
            log::error!("{panic}");
        }
    }

    fn count(&self, recorder: &dyn Recorder, extent: Extent, sample: &Sample, total: u64) {
        let series = (sample.metric.name, sample.of.map(|(_, value)| value));
        let before = self.published.lock().of(recorder).0.get(&series).copied();
        let grown = total.saturating_sub(before.unwrap_or(0));
        // a series begins with zero, and one that is brought up to date is not idle
        if grown > 0 || before.is_none() || extent == Extent::Whole {
            recorder.register_counter(&self.key(sample), &METADATA).increment(grown);
            // not before: what a recorder that panics has refused is handed over again
            let mut published = self.published.lock();
            *published.of(recorder).0.entry(series).or_default() += grown;
        }
    }

    fn set(&self, recorder: &dyn Recorder, extent: Extent, sample: &Sample, value: f64) {
        let value = match extent {
            Extent::Step if sample.metric.name != UP.name => return,
            Extent::Step | Extent::Whole => value,
            Extent::Last => f64::NAN,
        };
        recorder.register_gauge(&self.key(sample), &METADATA).set(value);
    }

    fn key(&self, sample: &Sample) -> Key {
        let (label, name) = &self.owner;
        let mut labels = vec![Label::new(*label, name.clone())];
        labels.extend(sample.of.map(|(which, of)| Label::from_static_parts(which, of)));
        Key::from_parts(sample.metric.name, labels)
    }

    /// Has no gauges any more.
    fn end(&self) {
        self.name.living.lock().retain(|id| *id != self.id);
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        SOURCES.lock().remove(&self.id);
        self.end();
        let mut names = NAMES.lock();
        if let Some((users, _)) = names.get_mut(&self.owner) {
            *users -= 1;
            if *users == 0 {
                names.remove(&self.owner);
            }
        }
    }
}

fn describe_once(recorder: &dyn Recorder) {
    let is_new = DESCRIBED.lock().of(recorder).1;
    if !is_new {
        return;
    }
    for metric in names::all() {
        let (name, unit) = (KeyName::from_const_str(metric.name), Some(names::unit(metric)));
        let help = SharedString::const_str(metric.help);
        if names::grows(metric) {
            recorder.describe_counter(name, unit, help);
        } else {
            recorder.describe_gauge(name, unit, help);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ::metrics::{Counter, Gauge, Histogram, Unit, with_local_recorder};
    use crossbeam_channel::bounded;
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::metrics::of_client;
    use crate::stats::ClientStats;

    /// Notes what it is asked for.
    #[derive(Default)]
    struct Asked(Mutex<Vec<(&'static str, String)>>);

    impl Asked {
        fn note(&self, what: &'static str, name: &str) {
            self.0.lock().push((what, name.to_owned()));
        }

        fn take(&self, what: &str) -> Vec<String> {
            let asked = self.0.lock().clone().into_iter();
            asked.filter(|(of, _)| *of == what).map(|(_, name)| name).collect()
        }
    }

    impl Recorder for Asked {
        fn describe_counter(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
            self.note("describe", key.as_str());
        }

        fn describe_gauge(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
            self.note("describe", key.as_str());
        }

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            self.note("counter", key.name());
            Counter::noop()
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            self.note("gauge", key.name());
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    fn client(name: &str) -> Outlet {
        Outlet::new("client", name.to_owned())
    }

    struct Owner(Outlet);

    impl Published for Owner {
        fn outlet(&self) -> &Outlet {
            &self.0
        }

        fn publish(&self, _: Extent) {}
    }

    #[test]
    fn nothing_is_left_of_who_has_ended() {
        let owner = Arc::new(Owner(client("registered")));
        register(&owner);
        let (id, source) = (owner.0.id, Arc::downgrade(&owner));
        assert!(SOURCES.lock().contains_key(&id));
        drop(owner);
        assert!(!SOURCES.lock().contains_key(&id));
        assert_eq!(source.weak_count(), 0, "its memory is free");
    }

    #[test]
    fn a_step_costs_what_has_changed() {
        let (asked, outlet) = (Asked::default(), client("step"));
        with_local_recorder(&asked, || {
            outlet.publish(Extent::Step, || of_client(false, &ClientStats::default()));
            assert_eq!(asked.take("describe").len(), names::all().count());
            asked.0.lock().clear();
            let stats = ClientStats { connects: 1, ..ClientStats::default() };
            outlet.publish(Extent::Step, || of_client(true, &stats));
            assert_eq!(asked.take("counter"), ["everlink_connects_total"]);
            assert_eq!(asked.take("gauge"), ["everlink_up"]);
            assert_eq!(asked.take("describe"), [""; 0], "described once");
            asked.0.lock().clear();
            outlet.publish(Extent::Whole, || of_client(true, &stats));
            assert_eq!(
                asked.take("counter").len() + asked.take("gauge").len(),
                of_client(true, &stats).len()
            );
        });
    }

    #[test]
    fn what_was_read_earlier_is_not_handed_over_later() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let outlet = client("order");
        let (reads, is_reading) = bounded(1);
        let (goes_on, go_on) = bounded(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                with_local_recorder(&recorder, || {
                    outlet.publish(Extent::Whole, || {
                        reads.send(()).unwrap();
                        // as long as the other one could take to overtake
                        let _ = go_on.recv_timeout(Duration::from_millis(300));
                        of_client(false, &ClientStats::default())
                    });
                });
            });
            is_reading.recv().unwrap();
            with_local_recorder(&recorder, || {
                outlet.publish(Extent::Step, || of_client(true, &ClientStats::default()));
            });
            let _ = goes_on.send(());
        });
        let text = recorder.handle().render();
        assert!(text.contains("everlink_up{client=\"order\"} 1"), "{text}");
    }

    #[test]
    fn a_recorder_that_comes_late_is_given_everything() {
        let outlet = client("late");
        let stats = ClientStats { messages_sent: 3, ..ClientStats::default() };
        let publish = || outlet.publish(Extent::Whole, || of_client(true, &stats));
        // to nobody
        publish();
        let recorder = PrometheusBuilder::new().build_recorder();
        with_local_recorder(&recorder, || (publish(), publish()));
        let text = recorder.handle().render();
        assert!(text.contains("everlink_messages_sent_total{client=\"late\"} 3"), "{text}");
    }

    /// Panics over one series, once.
    struct Refuses<R>(R, std::sync::atomic::AtomicBool);

    impl<R: Recorder> Recorder for Refuses<R> {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
            let is_refused = key.name() == "everlink_messages_sent_total";
            assert!(!is_refused || self.1.swap(true, Relaxed), "not this one");
            self.0.register_counter(key, metadata)
        }

        fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
            self.0.register_gauge(key, metadata)
        }

        fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
            self.0.register_histogram(key, metadata)
        }
    }

    #[test]
    fn what_a_recorder_refuses_it_is_given_again_and_the_rest_at_once() {
        let recorder = Refuses(PrometheusBuilder::new().build_recorder(), false.into());
        let outlet = client("refused");
        let stats =
            ClientStats { messages_sent: 3, messages_received: 4, ..ClientStats::default() };
        let publish = || {
            let code = || outlet.publish(Extent::Whole, || of_client(true, &stats));
            with_local_recorder(&recorder, code);
            recorder.0.handle().render()
        };
        let text = publish();
        assert!(!text.contains("everlink_messages_sent_total{"), "{text}");
        assert!(text.contains("everlink_messages_received_total{client=\"refused\"} 4"), "{text}");
        let text = publish();
        assert!(text.contains("everlink_messages_sent_total{client=\"refused\"} 3"), "{text}");
        assert!(text.contains("everlink_messages_received_total{client=\"refused\"} 4"), "{text}");
    }

    #[test]
    fn gauges_are_those_of_the_youngest_of_a_name() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let (older, younger) = (client("twice"), client("twice"));
        let publish = |outlet: &Outlet, extent, is_up, messages_sent| {
            let stats = ClientStats { messages_sent, ..ClientStats::default() };
            with_local_recorder(&recorder, || outlet.publish(extent, || of_client(is_up, &stats)));
        };
        let says = |up: &str, sent: u32| {
            let text = recorder.handle().render();
            for line in [
                format!("everlink_up{{client=\"twice\"}} {up}\n"),
                format!("everlink_messages_sent_total{{client=\"twice\"}} {sent}\n"),
            ] {
                assert!(text.contains(&line), "{line}: {text}");
            }
        };
        publish(&younger, Extent::Step, true, 2);
        publish(&older, Extent::Whole, false, 3);
        says("1", 5);
        publish(&older, Extent::Last, false, 4);
        says("1", 6);
        publish(&younger, Extent::Last, false, 2);
        says("NaN", 6);
        // one that has ended has no gauges, whoever asks
        publish(&younger, Extent::Whole, true, 2);
        says("NaN", 6);
        drop((older, younger));
        assert!(!NAMES.lock().contains_key(&("client", "twice".to_owned())));
    }
}
