//! The table from which everything that concerns a counter is made.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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

/// Counters and their snapshots: a row for each field.
///
/// ```text
/// /// Messages that ...
/// name: kind(type) = counter, "metric" "what that is";
/// ```
///
/// `kind` is a function of [`Fields`](super::field::Fields), which says what kind of value it is. `= counter` gives
/// the counters a field of that type. `+ field` instead adds the field of another source up. Without
/// either the value is filled in by whoever makes the snapshot. Without a metric it is not published.
///
/// Several snapshots can be made of the same counters: the rows of `each` are in all of them, as are
/// those of which rates are made.
macro_rules! counted {
    (
        $(#[$about:meta])*
        $seen:vis struct $Counters:ident + $Source:ident $rest:tt

        $(#[$about_rates:meta])*
        pub struct $Rates:ident from $rated:tt

        each $each:tt

        $($(#[$about_stats:meta])* pub struct $Stats:ident $own:tt)*
    ) => {
        counted!(@counters $(#[$about])* $seen $Counters $rest $rated $each $($own)*);
        counted!(@rates $(#[$about_rates])* $Rates $rated);
        $(
            counted!(
                @snapshot $(#[$about_stats])* $Stats of $Counters + $Source: $rated $each $own
            );
            counted!(@rates_since $Stats $Rates $rated);
        )*
    };

    (
        $(#[$about:meta])*
        $seen:vis struct $Counters:ident + $Source:ident $rest:tt

        $(#[$about_stats:meta])*
        pub struct $Stats:ident $rows:tt
    ) => {
        counted!(@counters $(#[$about])* $seen $Counters $rest $rows);
        counted!(@snapshot $(#[$about_stats])* $Stats of $Counters + $Source: $rows);
    };

    (
        @counters $(#[$about:meta])* $seen:vis $Counters:ident { $($rest:tt)* }
        $({$(
            $(#[$meta:meta])*
            $name:ident: $kind:ident($value:ty) $(= $counter:ident)? $(+ $source:ident)?
                $(, $metric:literal $help:literal)?;
        )*})*
    ) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        $seen struct $Counters {
            $($($(pub(crate) $name: $counter,)?)*)*
            $($rest)*
        }

        #[cfg(feature = "metrics")]
        impl $Counters {
            /// How each field is published.
            pub(crate) const METRICS: &'static [$crate::stats::table::Metric] = &[
                $($($($crate::stats::table::Metric {
                    field: stringify!($name),
                    name: $metric,
                    help: $help,
                },)?)*)*
            ];
        }
    };

    (
        @snapshot $(#[$about:meta])* $Stats:ident of $Counters:ident + $Source:ident:
        $({$(
            $(#[$meta:meta])*
            $name:ident: $kind:ident($value:ty) $(= $counter:ident)? $(+ $source:ident)?
                $(, $metric:literal $help:literal)?;
        )*})*
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(default))]
        #[non_exhaustive]
        pub struct $Stats {
            $($($(#[$meta])* pub $name: $value,)*)*
        }

        impl $Stats {
            /// With what is counted there.
            pub(crate) fn read(self, counters: &$Counters) -> Self {
                use $crate::stats::table::Source as _;
                Self { $($($($name: <$counter>::read(&counters.$name),)?)*)* ..self }
            }

            /// Adds up what is counted elsewhere.
            pub(crate) fn add(&mut self, other: &$Source) {
                use $crate::stats::table::Source as _;
                $($($(self.$name += other.$source.read();)?)*)*
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
                $($(fields.$kind(stringify!($name), self.$name);)*)*
                fields.into_iter()
            }
        }
    };

    (
        @rates $(#[$about:meta])* $Rates:ident
        {$($(#[$meta:meta])* $name:ident: total(u64) = $counter:ident, $metric:literal $help:literal;)*}
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        #[non_exhaustive]
        pub struct $Rates {
            $($(#[$meta])* pub $name: f64,)*
        }
    };

    (
        @rates_since $Stats:ident $Rates:ident
        {$($(#[$meta:meta])* $name:ident: total(u64) = $counter:ident, $metric:literal $help:literal;)*}
    ) => {
        impl $Stats {
            /// Messages and bytes for each second since an earlier snapshot of the same client or session;
            /// zero if no time has passed. Since the beginning, if that is [`default`](Self::default).
            ///
            /// ```no_run
            /// # let client = everlink::Client::connect("ws://localhost:9001")?;
            /// let before = client.stats();
            /// client.recv_timeout(std::time::Duration::from_secs(1))?;
            /// println!("{:.1} messages/s", client.stats().rates_since(&before).messages_received);
            /// # Ok::<(), everlink::Error>(())
            /// ```
            pub fn rates_since(&self, earlier: &Self) -> $Rates {
                let time = self.age.saturating_sub(earlier.age);
                let rate = |now, then| $crate::stats::rates::per_second(now, then, time);
                $Rates { $($name: rate(self.$name, earlier.$name),)* }
            }
        }
    };
}

pub(crate) use counted;
