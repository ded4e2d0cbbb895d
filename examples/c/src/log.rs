//! Log records, for programs that have no logger of Rust's.

use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::OnceLock;

use log::{LevelFilter, Log, Metadata, Record};

use crate::code::{EverlinkCode as Code, Wrong, checked};

/// A record: 1 for an error, 2 a warning, 3 information, 4 and 5 for whoever looks closely. On whatever thread; it
/// must not call into the library.
pub type EverlinkOnLog = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        level: c_int,
        target: *const c_char,
        text: *const c_char,
    ),
>;

struct Logger {
    call: unsafe extern "C" fn(*mut c_void, c_int, *const c_char, *const c_char),
    user: *mut c_void,
}

// SAFETY: the header says that any thread may call
unsafe impl Send for Logger {}
// SAFETY: as above
unsafe impl Sync for Logger {}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let text = |text: String| CString::new(text.replace('\0', " ")).unwrap_or_default();
        let (target, line) = (text(record.target().into()), text(record.args().to_string()));
        // SAFETY: the program's own function; what it gets is there until it returns
        unsafe { (self.call)(self.user, record.level() as c_int, target.as_ptr(), line.as_ptr()) };
    }

    fn flush(&self) {}
}

/// Has each record up to this level (0 to 5) handed to this function, as long as the process lives. Once: a second
/// time it is `EVERLINK_CODE_WRONG_ORDER`.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_set_logger(
    level: c_int,
    callback: EverlinkOnLog,
    user: *mut c_void,
) -> c_int {
    static LOGGER: OnceLock<Logger> = OnceLock::new();
    checked(|| {
        let call = callback.ok_or_else(|| Wrong::new(Code::Null, "callback is null"))?;
        let late = || Wrong::new(Code::WrongOrder, "there is a logger already");
        LOGGER.set(Logger { call, user }).map_err(|_| late())?;
        let logger = LOGGER.get().ok_or_else(late)?;
        log::set_logger(logger).map_err(|_| late())?;
        let levels = [
            LevelFilter::Off,
            LevelFilter::Error,
            LevelFilter::Warn,
            LevelFilter::Info,
            LevelFilter::Debug,
            LevelFilter::Trace,
        ];
        log::set_max_level(levels[level.clamp(0, 5) as usize]);
        Ok(())
    })
}
