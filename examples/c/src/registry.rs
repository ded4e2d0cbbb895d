//! Handles: numbers in the clothes of pointers. Nothing is ever read through one, so a handle that was freed,
//! or is none, is an error and no accident, on whatever thread.

use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Once, PoisonError, RwLock};

use crate::code::{EverlinkCode as Code, Wrong};
use crate::connection::Connection;
use crate::connection::Ticket;
use crate::server::ServerEntry;

/// What a handle stands for.
#[derive(Clone)]
pub enum Entry {
    Connection(Arc<Connection>),
    Receipt(Arc<Ticket>),
    Server(Arc<ServerEntry>),
}

/// One kind of them.
pub trait Kind: Sized {
    fn enter(this: Arc<Self>) -> Entry;
    fn of(entry: &Entry) -> Option<&Arc<Self>>;
}

macro_rules! kinds {
    ($($variant:ident($type:ty)),*) => {$(
        impl Kind for $type {
            fn enter(this: Arc<Self>) -> Entry {
                Entry::$variant(this)
            }

            fn of(entry: &Entry) -> Option<&Arc<Self>> {
                if let Entry::$variant(this) = entry { Some(this) } else { None }
            }
        }
    )*};
}

kinds! { Connection(Connection), Receipt(Ticket), Server(ServerEntry) }

type Table = RwLock<HashMap<usize, Entry>>;

/// The table of this process. A child of a `fork` has one of its own, which is empty: a lock of the
/// parent's may be held by a thread that the child has not.
static TABLE: AtomicPtr<Table> = AtomicPtr::new(ptr::null_mut());

/// Numbers are never used twice. They are no addresses, and not aligned as those would be.
static NEXT: AtomicUsize = AtomicUsize::new(0x1001);

fn renew() {
    TABLE.store(Box::into_raw(Box::default()), Ordering::Release);
}

extern "C" fn in_child() {
    renew();
}

fn table() -> &'static Table {
    static FIRST: Once = Once::new();
    FIRST.call_once(|| {
        renew();
        // SAFETY: the function is there as long as the library is, which is never unmapped
        #[cfg(unix)]
        unsafe {
            libc::pthread_atfork(None, None, Some(in_child));
        }
    });
    // SAFETY: `renew` has made it, and it is never freed
    unsafe { &*TABLE.load(Ordering::Acquire) }
}

/// A number that stands for nothing yet.
pub fn reserve() -> usize {
    NEXT.fetch_add(2, Ordering::Relaxed)
}

pub fn insert<T: Kind>(number: usize, entry: Arc<T>) {
    table().write().unwrap_or_else(PoisonError::into_inner).insert(number, T::enter(entry));
}

/// What a pointer of the header's stands for.
pub fn get<T: Kind, P>(handle: *const P) -> Result<Arc<T>, Wrong> {
    if handle.is_null() {
        return Err(Wrong::new(Code::Null, "the handle is null"));
    }
    let table = table().read().unwrap_or_else(PoisonError::into_inner);
    let found = table.get(&handle.addr()).and_then(T::of).map(Arc::clone);
    found.ok_or_else(|| {
        Wrong::new(
            Code::BadHandle,
            "the handle is none: it was freed, is of another kind or process",
        )
    })
}

/// The same, and the handle stands for nothing from here on.
pub fn remove<T: Kind, P>(handle: *const P) -> Result<Arc<T>, Wrong> {
    let found = get::<T, P>(handle)?;
    table().write().unwrap_or_else(PoisonError::into_inner).remove(&handle.addr());
    Ok(found)
}

pub fn pointer<P>(number: usize) -> *mut P {
    ptr::without_provenance_mut(number)
}
