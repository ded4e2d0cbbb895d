//! Panics of other people's code.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code that may panic, and says with what it did.
///
/// # Errors
///
/// The text of the panic.
#[inline]
pub(crate) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(text_of)
}

/// Drops what is the program's: a panic in its destructor ends nothing else.
pub(crate) fn drop_theirs<T>(name: &str, theirs: T) {
    if let Err(message) = caught(|| drop(theirs)) {
        log::error!("a {name} panicked when it was dropped: {message}");
    }
}

#[cold]
fn text_of(payload: Box<dyn Any + Send>) -> String {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a payload that is not text".into());
    discard(payload);
    message
}

/// What a panic carries is the program's too, and may panic when it is dropped. What that carries is
/// not dropped any more: it could go on like that for ever.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::caught;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic_any(Self);
            }
        }
    }

    #[test]
    fn a_payload_that_panics_when_it_is_dropped_is_caught_too() {
        assert_eq!(
            caught(|| panic_any(Bomb)).map(|(): ()| ()),
            Err("a payload that is not text".into())
        );
        assert_eq!(caught(|| panic!("plain")).map(|(): ()| ()), Err("plain".into()));
        assert_eq!(caught(|| 1), Ok(1));
    }
}
