//! Values with options, for either builder: each option is written once.

/// A value with an option, its setter and that one's documentation for each row.
macro_rules! options {
    (
        $(#[$meta:meta])*
        $name:ident {$(
            $(#[$doc:meta])*
            $option:ident: $type:ty, set($value:ident) $(, serde with $with:tt)?;
        )*}
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
        #[must_use]
        pub struct $name {$(
            #[cfg_attr(
                feature = "serde",
                serde(skip_serializing_if = "Option::is_none" $(, with = $with)?)
            )]
            pub(crate) $option: Option<$type>,
        )*}

        impl $name {
            /// The defaults.
            pub fn new() -> Self {
                Self::default()
            }

            $(
                $(#[$doc])*
                pub fn $option(mut self, $value: $type) -> Self {
                    self.$option = Some($value);
                    self
                }
            )*
        }
    };
}

pub(super) use options;
