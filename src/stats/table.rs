//! The table from which everything that concerns a counter is made.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::failure::{FailureCounts, FailureTally};

/// How a field is published.
#[cfg(feature = "metrics")]
#[derive(Debug)]
pub(crate) struct Metric {
    /// The name of the field.
    pub(crate) field: &'static str,
    /// Ends with what it is measured in, `_seconds` or `_bytes`, if that is not a count; then with
    /// `_total` if it only grows.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
}

/// What a field can be read from.
pub(crate) trait Source {
    type Value;

    fn read(&self) -> Self::Value;
}

impl Source for AtomicU64 {
    type Value = u64;

    fn read(&self) -> u64 {
        self.load(Relaxed)
    }
}

impl Source for FailureTally {
    type Value = FailureCounts;

    fn read(&self) -> FailureCounts {
        self.counts()
    }
}

impl Source for u64 {
    type Value = Self;

    fn read(&self) -> Self {
        *self
    }
}

impl Source for usize {
    type Value = Self;

    fn read(&self) -> Self {
        *self
    }
}

/// A snapshot and its counters: a row for each field.
///
/// ```text
/// /// Messages that ...
/// name: kind(type) = counter, "metric" "what that is";
/// ```
///
/// `kind` is a function of [`Fields`](super::field::Fields), which says what kind of value it is. `= counter` gives
/// the counters a field of that type. `+ field` instead adds the field of another source up. Without
/// either the value is filled in by whoever makes the snapshot. Without a metric it is not published.
macro_rules! counted {
    (
        $(#[$about:meta])*
        $visible:vis struct $Stats:ident + $Source:ty {
            $(
                $(#[$meta:meta])*
                $name:ident: $kind:ident($value:ty) $(= $counter:ident)? $(+ $source:ident)?
                    $(, $metric:literal $help:literal)?;
            )*
        }

        $(#[$about_counters:meta])*
        $seen:vis struct $Counters:ident { $($rest:tt)* }
    ) => {
        $(#[$about])*
        $visible struct $Stats {
            $($(#[$meta])* pub $name: $value,)*
        }

        $(#[$about_counters])*
        #[derive(Debug, Default)]
        $seen struct $Counters {
            $($(pub(crate) $name: $counter,)?)*
            $($rest)*
        }

        impl $Counters {
            /// What is counted here, and the rest as it is there.
            pub(crate) fn read(&self, rest: $Stats) -> $Stats {
                $Stats {
                    $($($name: <$counter as $crate::stats::table::Source>::read(&self.$name),)?)*
                    ..rest
                }
            }
        }

        impl $Stats {
            /// How each field is published.
            #[cfg(feature = "metrics")]
            pub(crate) const METRICS: &'static [$crate::stats::table::Metric] = &[
                $($($crate::stats::table::Metric {
                    field: stringify!($name),
                    name: $metric,
                    help: $help,
                },)?)*
            ];

            /// Adds up what is counted elsewhere.
            pub(crate) fn add(&mut self, other: &$Source) {
                $($(self.$name += $crate::stats::table::Source::read(&other.$source);)?)*
            }

            /// Every field by its name, those with more than one value once for each: for log lines and
            /// exporters that need not know what there is.
            ///
            /// ```
            #[doc = concat!("# let stats = everlink::stats::", stringify!($Stats), "::default();")]
            /// for field in stats.fields() {
            ///     println!("{field}");
            /// }
            /// ```
            pub fn fields(&self) -> impl Iterator<Item = $crate::stats::Field> + use<> {
                let mut fields = $crate::stats::field::Fields::default();
                $(fields.$kind(stringify!($name), self.$name);)*
                fields.0.into_iter()
            }
        }
    };
}

pub(crate) use counted;
