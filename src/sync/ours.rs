//! What handles of the program's hold, and what a child has of it after a `fork`: nothing.
//!
//! Only the thread that forks goes on in the child. Locks that others held stay locked there, and whatever
//! it writes to a socket goes into the parent's stream. So a handle asks first whose it is.

use std::sync::Arc;

/// The process that has made something. To ask for it costs one atomic load: the C library's `fork` has a
/// counter raised in the child (`pthread_atfork`). A child that is made by the bare system call is not noticed.
/// Where there is no such list of what to call at a `fork`, or no memory for one more entry, the process id is
/// compared, which is a system call each time.
#[derive(Debug, Clone)]
pub(crate) struct Process(Result<forkguard::Guard, forkguard::pid::Guard>);

impl Process {
    pub(crate) fn this() -> Self {
        Self(forkguard::Guard::try_new().map_err(|_| forkguard::pid::Guard::default()))
    }

    /// Whether it is the present one, and not a child of it.
    pub(crate) fn is_this(&self) -> bool {
        // a guard tells of a fork once: a copy is asked, and this one goes on telling of it
        match self.0.clone() {
            Ok(mut guard) => !guard.detected_fork(),
            Err(mut guard) => !guard.detected_fork(),
        }
    }
}

/// What a handle shares with the threads of this library. In a child it is out of reach, and is never
/// dropped.
#[derive(Debug)]
pub(crate) struct Ours<T: ?Sized> {
    value: Arc<T>,
    process: Process,
}

impl<T: ?Sized> Ours<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self { value, process: Process::this() }
    }

    /// Nothing in a child.
    pub(crate) fn get(&self) -> Option<&Arc<T>> {
        self.process.is_this().then_some(&self.value)
    }

    /// In a child too: for what neither takes a lock nor touches a socket.
    pub(crate) fn plain(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> Clone for Ours<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), process: self.process.clone() }
    }
}

impl<T: ?Sized> Drop for Ours<T> {
    fn drop(&mut self) {
        if !self.process.is_this() {
            // one more that is never given back
            std::mem::forget(Arc::clone(&self.value));
        }
    }
}
